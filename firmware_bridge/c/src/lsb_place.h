/* SPDX-License-Identifier: Apache-2.0 */
/* Steps 11 and 12: which parts are there, and where each lies. */
#ifndef LSB_PLACE_H
#define LSB_PLACE_H

#include "lsb.h"

/* Sets `offset` and `present` of every part. */
enum lsb_result lsb_place_parts(struct lsb_bundle *bundle);

#endif
