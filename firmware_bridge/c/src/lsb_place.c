/* SPDX-License-Identifier: Apache-2.0 */
#include "lsb_place.h"

#include "lsb_header.h"

#define ALIGNMENT 4096U

/* The bits are not signed, so only whole engines may be left out, never a part that all need. */
static bool do_present_bits_hold(const struct lsb_bundle *bundle)
{
    uint64_t of_engine[3] = {0, 0, 0};
    uint64_t expected, kept = 0;
    for (size_t i = 0; i < bundle->part_count; i++) {
        of_engine[bundle->parts[i].engine] |= (uint64_t)1 << i;
    }
    expected = of_engine[LSB_EVERY_DEVICE];
    for (int engine = LSB_ONNXRUNTIME; engine <= LSB_OPENVINO; engine++) {
        if ((bundle->present & of_engine[engine]) != 0) {
            kept |= of_engine[engine];
        }
    }
    expected |= kept;
    const bool has_any = (of_engine[LSB_ONNXRUNTIME] | of_engine[LSB_OPENVINO]) != 0;
    return bundle->present == expected && (kept != 0 || !has_any);
}

/* No sum can overflow: 64 parts of at most 2^40 bytes, and as many gaps. */
static uint64_t place(struct lsb_bundle *bundle)
{
    uint64_t end = LSB_HEADER_BYTES + (uint64_t)bundle->manifest_size;
    for (size_t i = 0; i < bundle->part_count; i++) {
        struct lsb_part *part = &bundle->parts[i];
        part->present = (bundle->present >> i & 1U) != 0;
        part->offset = 0;
        if (part->present) {
            part->offset = (end + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
            end = part->offset + part->size;
        }
    }
    return end;
}

static enum lsb_result check_zeros(struct lsb_bundle *bundle, uint64_t from, uint64_t to)
{
    uint8_t *chunk = bundle->pass.chunk;
    while (from < to) {
        const size_t size = to - from < LSB_CHUNK_BYTES ? (size_t)(to - from) : LSB_CHUNK_BYTES;
        if (bundle->storage.read(bundle->storage.context, from, chunk, size) != 0) {
            return LSB_STORAGE;
        }
        for (size_t i = 0; i < size; i++) {
            if (chunk[i] != 0) {
                return LSB_LAYOUT;
            }
        }
        from += size;
    }
    return LSB_OK;
}

enum lsb_result lsb_place_parts(struct lsb_bundle *bundle)
{
    uint64_t end = LSB_HEADER_BYTES + (uint64_t)bundle->manifest_size;
    if (!do_present_bits_hold(bundle)) {
        return LSB_PRESENT;
    }
    /* The length first: only then does every part lie inside the file. */
    if (place(bundle) != bundle->storage.size) {
        return LSB_LAYOUT;
    }
    for (size_t i = 0; i < bundle->part_count; i++) {
        const struct lsb_part *part = &bundle->parts[i];
        if (part->present) {
            const enum lsb_result result = check_zeros(bundle, end, part->offset);
            if (result != LSB_OK) {
                return result;
            }
            end = part->offset + part->size;
        }
    }
    return LSB_OK;
}
