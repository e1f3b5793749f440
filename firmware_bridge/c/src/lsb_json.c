/* SPDX-License-Identifier: Apache-2.0 */
#include "lsb_json.h"

#include "lsb_pass.h"

enum {
    DEPTH_LIMIT = 32, /* a manifest has 6 */
    KEY_ROOM = 24     /* the longest key that is looked for has 19 letters */
};

/* A number as it stands; `value` stays at UINT64_MAX where it does not fit. */
struct number {
    uint64_t value;
    bool negative, whole;
};

void lsb_refuse_json(struct lsb_json *json, enum lsb_result fault)
{
    lsb_set_fault(json->bundle, fault);
}

int lsb_take_json(struct lsb_json *json)
{
    const int byte = lsb_peek_byte(json->bundle);
    lsb_take_byte(json->bundle);
    return byte;
}

int lsb_peek_json(const struct lsb_json *json)
{
    int byte = lsb_peek_byte(json->bundle);
    while (byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t') {
        lsb_take_byte(json->bundle);
        byte = lsb_peek_byte(json->bundle);
    }
    return byte;
}

static bool take_if(struct lsb_json *json, char expected)
{
    if (lsb_peek_byte(json->bundle) != expected) {
        return false;
    }
    lsb_take_byte(json->bundle);
    return true;
}

static void take_mark(struct lsb_json *json, char expected)
{
    if (lsb_peek_json(json) != expected) {
        lsb_refuse_json(json, LSB_NOT_JSON);
    }
    lsb_take_byte(json->bundle);
}

static void begin(struct lsb_json *json, char bracket)
{
    if (lsb_peek_json(json) != bracket) {
        lsb_refuse_json(json, LSB_FIELD);
    }
    lsb_take_byte(json->bundle);
    json->fresh = true;
}

void lsb_begin_object(struct lsb_json *json)
{
    begin(json, '{');
}

void lsb_begin_array(struct lsb_json *json)
{
    begin(json, '[');
}

/* Whether another member comes; takes the comma before it, or the bracket that ends them. */
static bool next_member(struct lsb_json *json, char bracket)
{
    const bool ended = lsb_peek_json(json) == bracket;
    if (ended) {
        lsb_take_byte(json->bundle);
    } else if (!json->fresh) {
        take_mark(json, ',');
    }
    json->fresh = false;
    return !ended && json->bundle->pass.fault == LSB_OK;
}

bool lsb_next_item(struct lsb_json *json)
{
    return next_member(json, ']');
}

bool lsb_next_key(struct lsb_json *json, struct lsb_text *text)
{
    if (!next_member(json, '}')) {
        return false;
    }
    lsb_read_string(json, text);
    take_mark(json, ':');
    return json->bundle->pass.fault == LSB_OK;
}

/* The index of the key, or of the NULL behind them all. */
static int find_key(const char *const *known, const struct lsb_text *key)
{
    int index = 0;
    while (known[index] != NULL && !lsb_is_word(key, known[index])) {
        index++;
    }
    return index;
}

static bool are_all_seen(const char *const *known, uint32_t seen)
{
    while (*known != NULL && (seen & 1U) != 0) {
        known++;
        seen >>= 1;
    }
    return *known == NULL;
}

int lsb_next_known_key(struct lsb_json *json, const char *const *known, uint32_t *seen)
{
    char room[KEY_ROOM];
    struct lsb_text key = {room, sizeof room, 0, 0, false};
    if (!lsb_next_key(json, &key)) {
        if (!are_all_seen(known, *seen)) {
            lsb_refuse_json(json, LSB_FIELD);
        }
        return LSB_NO_MORE_KEYS;
    }
    const int index = find_key(known, &key);
    if (known[index] == NULL || (*seen >> index & 1U) != 0) {
        lsb_refuse_json(json, LSB_FIELD);
        return LSB_NO_MORE_KEYS;
    }
    *seen |= 1U << index;
    return index;
}

/* One digit or more. */
static uint64_t read_digits(struct lsb_json *json)
{
    uint64_t value = 0;
    bool some = false;
    for (;;) {
        const int byte = lsb_peek_byte(json->bundle);
        if (byte < '0' || byte > '9') {
            break;
        }
        lsb_take_byte(json->bundle);
        some = true;
        value = value > (UINT64_MAX - 9) / 10 ? UINT64_MAX : value * 10 + (uint64_t)(byte - '0');
    }
    if (!some) {
        lsb_refuse_json(json, LSB_NOT_JSON);
    }
    return value;
}

static struct number read_number(struct lsb_json *json)
{
    struct number found = {0, false, true};
    found.negative = take_if(json, '-');
    /* A zero stands alone: no digit may follow it. */
    if (!take_if(json, '0')) {
        found.value = read_digits(json);
    }
    if (take_if(json, '.')) {
        found.whole = false;
        (void)read_digits(json);
    }
    if (take_if(json, 'e') || take_if(json, 'E')) {
        found.whole = false;
        if (!take_if(json, '+')) {
            (void)take_if(json, '-');
        }
        (void)read_digits(json);
    }
    return found;
}

uint64_t lsb_read_integer(struct lsb_json *json, uint64_t least, uint64_t most)
{
    const int first = lsb_peek_json(json);
    struct number found = {0, false, false};
    if (first == '-' || (first >= '0' && first <= '9')) {
        found = read_number(json);
    }
    if (!found.whole || (found.negative && found.value != 0) || found.value < least ||
        found.value > most) {
        lsb_refuse_json(json, LSB_FIELD);
    }
    return found.value;
}

static void take_literal(struct lsb_json *json, const char *literal)
{
    while (*literal != '\0') {
        if (lsb_take_json(json) != *literal) {
            lsb_refuse_json(json, LSB_NOT_JSON);
            return;
        }
        literal++;
    }
}

static void skip_scalar(struct lsb_json *json, int first)
{
    struct lsb_text nowhere = {NULL, 0, 0, 0, false};
    switch (first) {
    case '"':
        lsb_read_string(json, &nowhere);
        break;
    case 't':
        take_literal(json, "true");
        break;
    case 'f':
        take_literal(json, "false");
        break;
    case 'n':
        take_literal(json, "null");
        break;
    default:
        (void)read_number(json);
    }
}

static bool next_of(struct lsb_json *json, bool is_object)
{
    struct lsb_text nowhere = {NULL, 0, 0, 0, false};
    return is_object ? lsb_next_key(json, &nowhere) : lsb_next_item(json);
}

void lsb_skip_value(struct lsb_json *json)
{
    uint32_t kinds = 0; /* bit 0: the innermost open container is an object */
    unsigned depth = 0;
    do {
        const int first = lsb_peek_json(json);
        if (first == '{' || first == '[') {
            begin(json, (char)first);
            kinds = kinds << 1 | (first == '{' ? 1U : 0U);
            depth++;
        } else {
            skip_scalar(json, first);
        }
        if (depth > DEPTH_LIMIT) {
            lsb_refuse_json(json, LSB_NOT_JSON);
        }
        while (depth > 0 && !next_of(json, (kinds & 1U) != 0)) {
            kinds >>= 1;
            depth--;
        }
    } while (depth > 0);
}

void lsb_end_json(struct lsb_json *json)
{
    if (lsb_peek_json(json) != LSB_END_OF_MANIFEST) {
        lsb_refuse_json(json, LSB_NOT_JSON);
    }
}
