/* SPDX-License-Identifier: Apache-2.0 */
#include "lsb_sodium.h"

#include <sodium.h>

/* C99 has no static_assert: an array of -1 elements stops the compiler. */
typedef char state_has_room[sizeof(struct lsb_sha256) >= sizeof(crypto_hash_sha256_state) ? 1 : -1];

static int start(void *context, struct lsb_sha256 *state)
{
    (void)context;
    return crypto_hash_sha256_init((crypto_hash_sha256_state *)(void *)state);
}

static int add(void *context, struct lsb_sha256 *state, const uint8_t *data, size_t size)
{
    (void)context;
    return crypto_hash_sha256_update((crypto_hash_sha256_state *)(void *)state, data, size);
}

static int finish(void *context, struct lsb_sha256 *state, uint8_t hash[LSB_HASH_BYTES])
{
    (void)context;
    return crypto_hash_sha256_final((crypto_hash_sha256_state *)(void *)state, hash);
}

/* RFC 8032, sec. 5.1.7: R = S B - k A, with k = SHA-512(R || A || M). libsodium's own verification wants
 * all of M in memory, so k is hashed in pieces, and the equation put together from its arithmetic. */
static bool holds(void *context, const uint8_t key[LSB_KEY_BYTES],
                  const uint8_t signature[LSB_SIGNATURE_BYTES], struct lsb_message *message)
{
    crypto_hash_sha512_state hash;
    uint8_t wide[64], k[32], left[32], right[32], r[32];
    const uint8_t *piece;
    size_t size;
    (void)context;
    crypto_hash_sha512_init(&hash);
    crypto_hash_sha512_update(&hash, signature, 32);
    crypto_hash_sha512_update(&hash, key, LSB_KEY_BYTES);
    while ((size = lsb_next_piece(message, &piece)) > 0) {
        crypto_hash_sha512_update(&hash, piece, size);
    }
    crypto_hash_sha512_final(&hash, wide);
    crypto_core_ed25519_scalar_reduce(k, wide);
    return crypto_scalarmult_ed25519_base_noclamp(left, signature + 32) == 0 &&
           crypto_scalarmult_ed25519_noclamp(right, k, key) == 0 &&
           crypto_core_ed25519_sub(r, left, right) == 0 && crypto_verify_32(r, signature) == 0;
}

const struct lsb_crypto lsb_sodium = {NULL, start, add, finish, holds};
