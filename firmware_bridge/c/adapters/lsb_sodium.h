/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 and Ed25519 of libsodium (Debian: libsodium-dev), for Linux devices and for tests. */
#ifndef LSB_SODIUM_H
#define LSB_SODIUM_H

#include "lsb.h"

/* Call sodium_init() once before. */
extern const struct lsb_crypto lsb_sodium;

#endif
