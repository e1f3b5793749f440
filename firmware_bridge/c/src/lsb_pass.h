/* SPDX-License-Identifier: Apache-2.0 */
/* One reading of the signed bytes, hashed as it goes.
 *
 * The manifest is read several times, because it may be larger than the memory. Storage can change
 * between two readings (a card pulled, a second master on the bus, an attacker at the wires), so the
 * bytes that were verified would not be the bytes that are parsed. Hence every reading is hashed: the
 * first while the signature is checked over the same pieces, and what a later one found counts only
 * if its hash is that of the first.
 */
#ifndef LSB_PASS_H
#define LSB_PASS_H

#include "lsb.h"

struct lsb_message {
    struct lsb_bundle *bundle;
    bool begun;
};

enum { LSB_END_OF_MANIFEST = -1 };

void lsb_begin_pass(struct lsb_bundle *bundle);

/* The next byte of the manifest, or LSB_END_OF_MANIFEST at its end and after any fault. */
int lsb_peek_byte(struct lsb_bundle *bundle);
void lsb_take_byte(struct lsb_bundle *bundle);

/* The first fault counts. */
void lsb_set_fault(struct lsb_bundle *bundle, enum lsb_result fault);

/* Ends the first reading: its hash becomes the bundle's. LSB_SIGNATURE where not all was read. */
enum lsb_result lsb_keep_hash(struct lsb_bundle *bundle);

/* Ends a later reading: LSB_CHANGED where its hash is not the bundle's. */
enum lsb_result lsb_compare_hash(struct lsb_bundle *bundle);

/* Reads and hashes bytes [offset, offset + size) with the pass's state and buffer, copying them to
 * `copy` unless it is NULL. */
enum lsb_result lsb_hash_span(struct lsb_bundle *bundle, uint64_t offset, uint64_t size,
                              uint8_t *copy, uint8_t hash[LSB_HASH_BYTES]);

#endif
