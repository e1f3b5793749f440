/* SPDX-License-Identifier: Apache-2.0 */
#include "lsb_pass.h"

#include "lsb_bytes.h"
#include "lsb_header.h"

void lsb_set_fault(struct lsb_bundle *bundle, enum lsb_result fault)
{
    if (bundle->pass.fault == LSB_OK) {
        bundle->pass.fault = fault;
    }
}

static void start(struct lsb_bundle *bundle)
{
    const struct lsb_crypto *crypto = bundle->device->crypto;
    bundle->pass.fault = LSB_OK;
    if (crypto->sha256_start(crypto->context, &bundle->pass.sha256) != 0) {
        lsb_set_fault(bundle, LSB_CRYPTO);
    }
}

static void add(struct lsb_bundle *bundle, const uint8_t *data, size_t size)
{
    const struct lsb_crypto *crypto = bundle->device->crypto;
    if (bundle->pass.fault == LSB_OK &&
        crypto->sha256_add(crypto->context, &bundle->pass.sha256, data, size) != 0) {
        lsb_set_fault(bundle, LSB_CRYPTO);
    }
}

static enum lsb_result finish(struct lsb_bundle *bundle, uint8_t hash[LSB_HASH_BYTES])
{
    const struct lsb_crypto *crypto = bundle->device->crypto;
    if (bundle->pass.fault == LSB_OK &&
        crypto->sha256_finish(crypto->context, &bundle->pass.sha256, hash) != 0) {
        lsb_set_fault(bundle, LSB_CRYPTO);
    }
    return bundle->pass.fault;
}

/* At most `limit` bytes of what is left of the pass into `to`; how many. */
static size_t read_some(struct lsb_bundle *bundle, uint8_t *to, size_t limit)
{
    struct lsb_pass *pass = &bundle->pass;
    const uint64_t left = pass->end - pass->offset;
    const size_t size = left < limit ? (size_t)left : limit;
    if (size == 0 || pass->fault != LSB_OK) {
        return 0;
    }
    if (bundle->storage.read(bundle->storage.context, pass->offset, to, size) != 0) {
        lsb_set_fault(bundle, LSB_STORAGE);
        return 0;
    }
    pass->offset += size;
    add(bundle, to, size);
    return pass->fault == LSB_OK ? size : 0;
}

static bool fill(struct lsb_bundle *bundle)
{
    struct lsb_pass *pass = &bundle->pass;
    pass->used = 0;
    pass->filled = read_some(bundle, pass->chunk, sizeof pass->chunk);
    return pass->filled > 0;
}

void lsb_begin_pass(struct lsb_bundle *bundle)
{
    struct lsb_pass *pass = &bundle->pass;
    pass->offset = LSB_HEADER_BYTES;
    pass->end = LSB_HEADER_BYTES + (uint64_t)bundle->manifest_size;
    pass->used = 0;
    pass->filled = 0;
    start(bundle);
    add(bundle, bundle->signed_header, sizeof bundle->signed_header);
}

int lsb_peek_byte(struct lsb_bundle *bundle)
{
    struct lsb_pass *pass = &bundle->pass;
    if (pass->fault != LSB_OK || (pass->used == pass->filled && !fill(bundle))) {
        return LSB_END_OF_MANIFEST;
    }
    return pass->chunk[pass->used];
}

void lsb_take_byte(struct lsb_bundle *bundle)
{
    if (bundle->pass.used < bundle->pass.filled) {
        bundle->pass.used++;
    }
}

size_t lsb_next_piece(struct lsb_message *message, const uint8_t **piece)
{
    struct lsb_bundle *bundle = message->bundle;
    if (!message->begun) {
        message->begun = true;
        *piece = bundle->signed_header;
        return sizeof bundle->signed_header;
    }
    (void)fill(bundle);
    *piece = bundle->pass.chunk;
    return bundle->pass.filled;
}

enum lsb_result lsb_keep_hash(struct lsb_bundle *bundle)
{
    if (bundle->pass.offset != bundle->pass.end) {
        /* A library that did not look at all of the message cannot have verified it. */
        lsb_set_fault(bundle, LSB_SIGNATURE);
    }
    return finish(bundle, bundle->hash);
}

enum lsb_result lsb_compare_hash(struct lsb_bundle *bundle)
{
    uint8_t hash[LSB_HASH_BYTES];
    const enum lsb_result result = finish(bundle, hash);
    if (result != LSB_OK) {
        return result;
    }
    return lsb_same_bytes(hash, bundle->hash, sizeof hash) ? LSB_OK : LSB_CHANGED;
}

enum lsb_result lsb_hash_span(struct lsb_bundle *bundle, uint64_t offset, uint64_t size,
                              uint8_t *copy, uint8_t hash[LSB_HASH_BYTES])
{
    struct lsb_pass *pass = &bundle->pass;
    size_t given = 0;
    pass->offset = offset;
    pass->end = offset + size;
    start(bundle);
    do {
        uint8_t *to = copy != NULL ? copy : pass->chunk;
        given = read_some(bundle, to, sizeof pass->chunk);
        copy = copy != NULL ? copy + given : NULL;
    } while (given > 0);
    return finish(bundle, hash);
}
