/* SPDX-License-Identifier: Apache-2.0 */
/* Strings of JSON: escapes (RFC 8259, sec. 7) and UTF-8 (RFC 3629). */
#include "lsb_json.h"

enum {
    LAST_LETTER = 0x10FFFF,
    FIRST_SURROGATE = 0xD800,
    LAST_HIGH_SURROGATE = 0xDBFF,
    FIRST_LOW_SURROGATE = 0xDC00,
    LAST_SURROGATE = 0xDFFF
};

static uint32_t refuse(struct lsb_json *json)
{
    lsb_refuse_json(json, LSB_NOT_JSON);
    return 0;
}

static bool is_surrogate(uint32_t letter)
{
    return letter >= FIRST_SURROGATE && letter <= LAST_SURROGATE;
}

/* The letter that begins with the byte `lead`; none may be longer than it needs (RFC 3629, sec. 3). */
static uint32_t read_utf8(struct lsb_json *json, uint32_t lead)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const unsigned more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    uint32_t letter = lead & 0x3FU >> more;
    if (lead < 0xC2 || lead > 0xF4) {
        return refuse(json);
    }
    for (unsigned i = 0; i < more; i++) {
        const int byte = lsb_take_json(json);
        if (byte < 0x80 || byte > 0xBF) {
            return refuse(json);
        }
        letter = letter << 6 | ((uint32_t)byte & 0x3FU);
    }
    if (letter < least[more] || letter > LAST_LETTER || is_surrogate(letter)) {
        return refuse(json);
    }
    return letter;
}

static uint32_t read_hex_digit(struct lsb_json *json)
{
    const int byte = lsb_take_json(json);
    if (byte >= '0' && byte <= '9') {
        return (uint32_t)(byte - '0');
    }
    if (byte >= 'a' && byte <= 'f') {
        return (uint32_t)(byte - 'a' + 10);
    }
    if (byte >= 'A' && byte <= 'F') {
        return (uint32_t)(byte - 'A' + 10);
    }
    return refuse(json);
}

static uint32_t read_four_digits(struct lsb_json *json)
{
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        unit = unit << 4 | read_hex_digit(json);
    }
    return unit;
}

/* Behind `\u`: one unit of UTF-16, or two where the first is a high surrogate. */
static uint32_t read_utf16(struct lsb_json *json)
{
    const uint32_t high = read_four_digits(json);
    if (!is_surrogate(high)) {
        return high;
    }
    if (high > LAST_HIGH_SURROGATE || lsb_take_json(json) != '\\' || lsb_take_json(json) != 'u') {
        return refuse(json);
    }
    const uint32_t low = read_four_digits(json);
    if (low < FIRST_LOW_SURROGATE || low > LAST_SURROGATE) {
        return refuse(json);
    }
    return 0x10000U + ((high - FIRST_SURROGATE) << 10) + (low - FIRST_LOW_SURROGATE);
}

static uint32_t read_escape(struct lsb_json *json)
{
    static const char marks[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    const int byte = lsb_take_json(json);
    if (byte == 'u') {
        return read_utf16(json);
    }
    for (size_t i = 0; i + 1 < sizeof marks; i++) {
        if (byte == marks[i]) {
            return (uint32_t)meanings[i];
        }
    }
    return refuse(json);
}

static size_t encode_utf8(uint32_t letter, char to[4])
{
    static const uint8_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    const size_t size = letter < 0x80 ? 1 : letter < 0x800 ? 2 : letter < 0x10000 ? 3 : 4;
    for (size_t i = size; i > 1; i--) {
        to[i - 1] = (char)(0x80U | (letter & 0x3FU));
        letter >>= 6;
    }
    to[0] = (char)(leads[size] | letter);
    return size;
}

/* What does not fit is left out whole, and all behind it. */
static void store(struct lsb_text *text, uint32_t letter)
{
    char bytes[4];
    const size_t size = encode_utf8(letter, bytes);
    text->letters++;
    if (text->cut || text->room == 0 || size >= text->room - text->stored) {
        text->cut = true;
        return;
    }
    for (size_t i = 0; i < size; i++) {
        text->to[text->stored++] = bytes[i];
    }
    text->to[text->stored] = '\0';
}

void lsb_read_string(struct lsb_json *json, struct lsb_text *text)
{
    text->stored = 0;
    text->letters = 0;
    text->cut = false;
    if (text->room > 0) {
        text->to[0] = '\0';
    }
    if (lsb_peek_json(json) != '"') {
        lsb_refuse_json(json, LSB_FIELD);
    }
    (void)lsb_take_json(json);
    while (json->bundle->pass.fault == LSB_OK) {
        const int byte = lsb_take_json(json);
        if (byte == '"') {
            return;
        }
        if (byte < ' ') { /* a control character, or the manifest's end */
            (void)refuse(json);
        } else if (byte == '\\') {
            store(text, read_escape(json));
        } else {
            store(text, byte < 0x80 ? (uint32_t)byte : read_utf8(json, (uint32_t)byte));
        }
    }
}

bool lsb_is_word(const struct lsb_text *text, const char *word)
{
    for (size_t i = 0; i < text->stored; i++) {
        if (word[i] == '\0' || word[i] != text->to[i]) {
            return false;
        }
    }
    return !text->cut && word[text->stored] == '\0';
}
