/* SPDX-License-Identifier: Apache-2.0 */
/* A pull parser of strict JSON (RFC 8259) over one reading of the manifest.
 *
 * No recursion and no tree: whoever reads asks for the next key, item or value. After a fault (kept in
 * the pass) every question is answered with "no more", so loops end and nobody needs to look at
 * once. White space, the order of keys and escapes are as free as JSON has them: what another reader
 * takes must not be refused here.
 */
#ifndef LSB_JSON_H
#define LSB_JSON_H

#include "lsb.h"

enum { LSB_NO_MORE_KEYS = -1 };

struct lsb_json {
    struct lsb_bundle *bundle;
    bool fresh; /* right behind the `{` or `[` of the innermost container */
};

/* Where a string goes. */
struct lsb_text {
    char *to; /* ended by a zero, unless room is 0 */
    size_t room;
    size_t stored;  /* bytes there, without that zero */
    size_t letters; /* characters that the string has, stored or not */
    bool cut;       /* not all had room */
};

/* `{` or `[`; LSB_FIELD where something else comes. */
void lsb_begin_object(struct lsb_json *json);
void lsb_begin_array(struct lsb_json *json);

/* Reads the next key into `text` and its colon; false behind the last. */
bool lsb_next_key(struct lsb_json *json, struct lsb_text *text);

/* The same, as an index in `known` (ended by NULL). LSB_FIELD where a key is unknown, stands twice,
 * or at the end is missing; `seen` is 0 before the first. */
int lsb_next_known_key(struct lsb_json *json, const char *const *known, uint32_t *seen);

/* Whether another item of the array comes; the caller reads it. */
bool lsb_next_item(struct lsb_json *json);

/* An integer without fraction or exponent; LSB_FIELD where it is not within [least, most]. */
uint64_t lsb_read_integer(struct lsb_json *json, uint64_t least, uint64_t most);

/* Any value, checked for being JSON. */
void lsb_skip_value(struct lsb_json *json);

/* Nothing but white space may follow. */
void lsb_end_json(struct lsb_json *json);

/* In lsb_text.c. */

/* A string, UTF-8 and escapes checked and decoded; LSB_FIELD where something else comes. */
void lsb_read_string(struct lsb_json *json, struct lsb_text *text);

/* Whether the text is that word, whole; a zero character inside does not end it. */
bool lsb_is_word(const struct lsb_text *text, const char *word);

/* For lsb_text.c: the next byte that is no white space, not taken; the next as it stands, taken. */
int lsb_peek_json(const struct lsb_json *json);
int lsb_take_json(struct lsb_json *json);
void lsb_refuse_json(struct lsb_json *json, enum lsb_result fault);

#endif
