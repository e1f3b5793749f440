/* SPDX-License-Identifier: Apache-2.0 */
#include "lsb_header.h"

#include "lsb_bytes.h"

enum {
    FORMAT_AT = 4,
    HEADER_SIZE_AT = 6,
    MANIFEST_SIZE_AT = 24,
    RESERVED_AT = 28,
    PRESENT_AT = 96,
    ZEROS_AT = 104,
    CRC_AT = 124,
    MANIFEST_LIMIT = 262144
};

/* Of Ethernet, zip and PNG, bit by bit: 124 bytes are not worth a table of 1 KiB. */
static uint32_t crc32(const uint8_t *data, size_t size)
{
    uint32_t crc = 0xFFFFFFFFU;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xEDB88320U & (0U - (crc & 1U)));
        }
    }
    return ~crc;
}

static bool is_reserved_zero(const uint8_t *header)
{
    uint8_t found = 0;
    for (size_t i = ZEROS_AT; i < CRC_AT; i++) {
        found |= header[i];
    }
    return found == 0 && lsb_little_endian(header + RESERVED_AT, 4) == 0;
}

/* Steps 1 to 5, over the bytes. */
static enum lsb_result check(const uint8_t *header, uint64_t file_size)
{
    static const uint8_t magic[4] = {'L', 'S', 'B', '1'};
    const uint64_t manifest_size = lsb_little_endian(header + MANIFEST_SIZE_AT, 4);
    if (!lsb_same_bytes(header, magic, sizeof magic)) {
        return LSB_NOT_A_BUNDLE;
    }
    if (lsb_little_endian(header + CRC_AT, 4) != crc32(header, CRC_AT)) {
        return LSB_DAMAGED;
    }
    if (lsb_little_endian(header + FORMAT_AT, 2) != 1) {
        return LSB_OTHER_FORMAT;
    }
    if (lsb_little_endian(header + HEADER_SIZE_AT, 2) != LSB_HEADER_BYTES ||
        !is_reserved_zero(header) || manifest_size == 0 || manifest_size > MANIFEST_LIMIT) {
        return LSB_HEADER;
    }
    if (LSB_HEADER_BYTES + manifest_size > file_size) {
        return LSB_CUT_SHORT;
    }
    return manifest_size > LSB_MAX_MANIFEST_BYTES ? LSB_TOO_LARGE : LSB_OK;
}

enum lsb_result lsb_read_header(struct lsb_bundle *bundle, uint8_t header[LSB_HEADER_BYTES])
{
    const struct lsb_storage *storage = &bundle->storage;
    if (storage->size < LSB_HEADER_BYTES) {
        return LSB_NOT_A_BUNDLE;
    }
    if (storage->read(storage->context, 0, header, LSB_HEADER_BYTES) != 0) {
        return LSB_STORAGE;
    }
    lsb_copy(bundle->signed_header, header, sizeof bundle->signed_header);
    bundle->manifest_size = (uint32_t)lsb_little_endian(header + MANIFEST_SIZE_AT, 4);
    bundle->present = lsb_little_endian(header + PRESENT_AT, 8);
    return check(header, storage->size);
}
