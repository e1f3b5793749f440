/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest's objects that the reader knows, into the bundle. */
#ifndef LSB_TABLES_H
#define LSB_TABLES_H

#include "lsb_json.h"

/* `product` and `version` say where these texts go, perhaps nowhere. */
void lsb_read_identity(struct lsb_json *json, struct lsb_text *product, struct lsb_text *version);
void lsb_read_parts(struct lsb_json *json);

/* The parts must have been read before. */
void lsb_read_models(struct lsb_json *json);

#endif
