/* SPDX-License-Identifier: Apache-2.0 */
#include "lsb_bytes.h"
#include "lsb_header.h"
#include "lsb_manifest.h"
#include "lsb_pass.h"
#include "lsb_place.h"
#include "lsb_seal.h"

/* Also after a refusal, so that nothing of a refused bundle can be found. */
static void clear(struct lsb_bundle *bundle)
{
    uint8_t *bytes = (uint8_t *)bundle;
    for (size_t i = 0; i < sizeof *bundle; i++) {
        bytes[i] = 0;
    }
}

enum lsb_result lsb_open_unhashed(struct lsb_bundle *bundle, const struct lsb_storage *storage,
                                  const struct lsb_device *device)
{
    uint8_t header[LSB_HEADER_BYTES];
    clear(bundle);
    bundle->storage = *storage;
    bundle->device = device;
    enum lsb_result result = lsb_read_header(bundle, header);
    if (result == LSB_OK) {
        result = lsb_check_seal(bundle, header);
    }
    if (result == LSB_OK) {
        result = lsb_read_manifest(bundle);
    }
    if (result == LSB_OK) {
        result = lsb_place_parts(bundle);
    }
    if (result != LSB_OK) {
        clear(bundle);
    }
    return result;
}

enum lsb_result lsb_open(struct lsb_bundle *bundle, const struct lsb_storage *storage,
                         const struct lsb_device *device)
{
    enum lsb_result result = lsb_open_unhashed(bundle, storage, device);
    for (size_t i = 0; i < bundle->part_count && result == LSB_OK; i++) {
        if (bundle->parts[i].present) {
            result = lsb_check_part(bundle, &bundle->parts[i]);
        }
    }
    if (result != LSB_OK) {
        clear(bundle);
    }
    return result;
}

/* Hashes the part, copying it unless `copy` is NULL. */
static enum lsb_result hash_part(struct lsb_bundle *bundle, const struct lsb_part *part,
                                 uint8_t *copy)
{
    uint8_t hash[LSB_HASH_BYTES];
    const enum lsb_result result =
        lsb_hash_span(bundle, part->offset, part->size, copy, hash);
    if (result != LSB_OK) {
        return result;
    }
    return lsb_same_bytes(hash, part->sha256, sizeof hash) ? LSB_OK : LSB_PART_HASH;
}

enum lsb_result lsb_check_part(struct lsb_bundle *bundle, const struct lsb_part *part)
{
    return part->present ? hash_part(bundle, part, NULL) : LSB_NO_PART;
}

const struct lsb_part *lsb_find_part(const struct lsb_bundle *bundle, const char *name)
{
    for (size_t i = 0; i < bundle->part_count; i++) {
        const struct lsb_part *part = &bundle->parts[i];
        if (part->present && lsb_same_word(part->name, name)) {
            return part;
        }
    }
    return NULL;
}

enum lsb_result lsb_load_part(struct lsb_bundle *bundle, const struct lsb_part *part, void *to,
                              size_t room)
{
    if (!part->present) {
        return LSB_NO_PART;
    }
    return part->size <= room ? hash_part(bundle, part, to) : LSB_OUT_OF_PART;
}

enum lsb_result lsb_read_part(const struct lsb_bundle *bundle, const struct lsb_part *part,
                              uint64_t offset, void *to, size_t size)
{
    const struct lsb_storage *storage = &bundle->storage;
    if (!part->present) {
        return LSB_NO_PART;
    }
    if (offset > part->size || size > part->size - offset) {
        return LSB_OUT_OF_PART;
    }
    if (size > 0 && storage->read(storage->context, part->offset + offset, to, size) != 0) {
        return LSB_STORAGE;
    }
    return LSB_OK;
}

bool lsb_is_for(const struct lsb_bundle *bundle, const char *hardware)
{
    return lsb_same_word(bundle->target, "any") || lsb_same_word(bundle->target, hardware);
}
