/* SPDX-License-Identifier: Apache-2.0 */
#include "lsb_seal.h"

#include "lsb_bytes.h"
#include "lsb_pass.h"

static enum lsb_result find_key(struct lsb_bundle *bundle, const uint8_t *key_id)
{
    const struct lsb_device *device = bundle->device;
    const struct lsb_crypto *crypto = device->crypto;
    struct lsb_sha256 *state = &bundle->pass.sha256;
    for (size_t i = 0; i < device->revoked_count; i++) {
        if (lsb_same_bytes(device->revoked[i], key_id, LSB_KEY_ID_BYTES)) {
            return LSB_KEY_REVOKED;
        }
    }
    for (size_t i = 0; i < device->key_count; i++) {
        uint8_t hash[LSB_HASH_BYTES]; /* a key's id is the first half of its SHA-256 */
        if (crypto->sha256_start(crypto->context, state) != 0 ||
            crypto->sha256_add(crypto->context, state, device->keys[i], LSB_KEY_BYTES) != 0 ||
            crypto->sha256_finish(crypto->context, state, hash) != 0) {
            return LSB_CRYPTO;
        }
        if (lsb_same_bytes(hash, key_id, LSB_KEY_ID_BYTES)) {
            bundle->key = device->keys[i];
            return LSB_OK;
        }
    }
    return LSB_KEY_UNKNOWN;
}

/* RFC 8032, sec. 5.1.7: S is below the group order. Some libraries take S + order for the same, and
 * then a bundle has several signatures that hold; so it is checked here, whatever the library does. */
static bool is_below_order(const uint8_t scalar[32])
{
    static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,
                                      0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
                                      0,    0,    0,    0,    0,    0,    0,    0,
                                      0,    0,    0,    0,    0,    0,    0,    0x10};
    for (size_t i = sizeof order; i > 0; i--) {
        if (scalar[i - 1] != order[i - 1]) {
            return scalar[i - 1] < order[i - 1];
        }
    }
    return false;
}

enum lsb_result lsb_check_seal(struct lsb_bundle *bundle, const uint8_t header[LSB_HEADER_BYTES])
{
    const struct lsb_crypto *crypto = bundle->device->crypto;
    const uint8_t *signature = header + LSB_SIGNATURE_AT;
    struct lsb_message message = {bundle, false};
    enum lsb_result result = find_key(bundle, header + LSB_KEY_ID_AT);
    if (result != LSB_OK) {
        return result;
    }
    if (!is_below_order(signature + 32)) {
        return LSB_SIGNATURE;
    }
    lsb_begin_pass(bundle);
    const bool holds = crypto->ed25519_holds(crypto->context, bundle->key, signature, &message);
    result = lsb_keep_hash(bundle);
    if (result != LSB_OK) {
        return result;
    }
    return holds ? LSB_OK : LSB_SIGNATURE;
}
