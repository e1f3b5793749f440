/* SPDX-License-Identifier: Apache-2.0 */
/* Steps 1 to 5: the 128 bytes in front. */
#ifndef LSB_HEADER_H
#define LSB_HEADER_H

#include "lsb.h"

enum {
    LSB_HEADER_BYTES = 128,
    LSB_KEY_ID_AT = 8,
    LSB_SIGNATURE_AT = 32
};

/* Reads the header, and what of it is needed later into the bundle. */
enum lsb_result lsb_read_header(struct lsb_bundle *bundle, uint8_t header[LSB_HEADER_BYTES]);

#endif
