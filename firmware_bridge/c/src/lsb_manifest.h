/* SPDX-License-Identifier: Apache-2.0 */
/* Steps 8 to 10: what of the manifest a device needs that runs no model: format, identity, models and
 * parts. The rest must be JSON, and is passed over. */
#ifndef LSB_MANIFEST_H
#define LSB_MANIFEST_H

#include "lsb_json.h"

enum lsb_result lsb_read_manifest(struct lsb_bundle *bundle);

/* Steps 8 and 9, before any other field is looked at: a later manifest may have fields that nobody here
 * knows, and is then not a damaged one. */
enum lsb_result lsb_check_runtime(struct lsb_bundle *bundle);

#endif
