/* SPDX-License-Identifier: Apache-2.0 */
/* Ed25519 of Monocypher 4 (https://monocypher.org), for firmware that has none: add its monocypher.c and
 * optional/monocypher-ed25519.c to the build. SHA-256 it does not have; take the chip's or mbedTLS's. */
#ifndef LSB_MONOCYPHER_H
#define LSB_MONOCYPHER_H

#include "lsb.h"

/* For struct lsb_crypto; takes no context. */
bool lsb_monocypher_ed25519_holds(void *context, const uint8_t key[LSB_KEY_BYTES],
                                  const uint8_t signature[LSB_SIGNATURE_BYTES],
                                  struct lsb_message *message);

#endif
