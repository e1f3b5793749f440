/* SPDX-License-Identifier: Apache-2.0 */
#include "lsb_monocypher.h"

#include "monocypher-ed25519.h"

/* RFC 8032, sec. 5.1.7; SHA-512(R || A || M) in pieces. */
bool lsb_monocypher_ed25519_holds(void *context, const uint8_t key[LSB_KEY_BYTES],
                                  const uint8_t signature[LSB_SIGNATURE_BYTES],
                                  struct lsb_message *message)
{
    crypto_sha512_ctx hash;
    uint8_t wide[64], reduced[32];
    const uint8_t *piece;
    size_t size;
    (void)context;
    crypto_sha512_init(&hash);
    crypto_sha512_update(&hash, signature, 32);
    crypto_sha512_update(&hash, key, LSB_KEY_BYTES);
    while ((size = lsb_next_piece(message, &piece)) > 0) {
        crypto_sha512_update(&hash, piece, size);
    }
    crypto_sha512_final(&hash, wide);
    crypto_eddsa_reduce(reduced, wide);
    return crypto_eddsa_check_equation(signature, key, reduced) == 0;
}
