/* SPDX-License-Identifier: Apache-2.0 */
/* Steps 6 and 7: whose seal it is, and whether it holds. */
#ifndef LSB_SEAL_H
#define LSB_SEAL_H

#include "lsb_header.h"

/* Sets the bundle's key and hash. */
enum lsb_result lsb_check_seal(struct lsb_bundle *bundle, const uint8_t header[LSB_HEADER_BYTES]);

#endif
