/* SPDX-License-Identifier: Apache-2.0 */
#include "lsb_fields.h"

enum {
    LETTERS_LIMIT = 200,
    RELEASE_ROOM = 16, /* "9999.9999.9999" */
    CHOICE_ROOM = 16,  /* "onnxruntime" */
    RELEASE_DIGITS = 4
};

static void refuse_unless(struct lsb_json *json, bool holds)
{
    if (!holds) {
        lsb_refuse_json(json, LSB_FIELD);
    }
}

void lsb_read_name_for_people(struct lsb_json *json, struct lsb_text *text)
{
    lsb_read_string(json, text);
    refuse_unless(json, text->letters >= 1 && text->letters <= LETTERS_LIMIT);
}

static bool is_lower_or_digit(char letter)
{
    return (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9');
}

/* Whether it is words joined by slashes; how many slashes. */
static bool is_words(const struct lsb_text *text, size_t *slashes)
{
    bool begins = true;
    *slashes = 0;
    for (size_t i = 0; i < text->stored; i++) {
        const char letter = text->to[i];
        const bool is_mark = letter == '.' || letter == '_' || letter == '-' || letter == '/';
        if (!is_lower_or_digit(letter) && (begins || !is_mark)) {
            return false;
        }
        begins = letter == '/';
        *slashes += begins ? 1 : 0;
    }
    return !begins && !text->cut;
}

void lsb_read_word(struct lsb_json *json, char to[LSB_WORD_BYTES])
{
    struct lsb_text text = {to, LSB_WORD_BYTES, 0, 0, false};
    size_t slashes;
    lsb_read_string(json, &text);
    refuse_unless(json, is_words(&text, &slashes) && slashes == 0);
}

void lsb_read_part_name(struct lsb_json *json, char to[LSB_WORD_BYTES])
{
    struct lsb_text text = {to, LSB_WORD_BYTES, 0, 0, false};
    size_t slashes;
    lsb_read_string(json, &text);
    refuse_unless(json, is_words(&text, &slashes));
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

void lsb_read_sha256(struct lsb_json *json, uint8_t to[LSB_HASH_BYTES])
{
    char digits[2 * LSB_HASH_BYTES + 1];
    struct lsb_text text = {digits, sizeof digits, 0, 0, false};
    lsb_read_string(json, &text);
    refuse_unless(json, text.stored + 1 == sizeof digits && !text.cut);
    for (size_t i = 0; 2 * i < text.stored; i++) {
        const int high = hex_value(digits[2 * i]), low = hex_value(digits[2 * i + 1]);
        refuse_unless(json, high >= 0 && low >= 0);
        to[i] = (uint8_t)((unsigned)high << 4 | (unsigned)low);
    }
}

/* Digits up to `end`, which is taken as well; the number of them is limited. */
static bool read_number(const char **from, char end, uint16_t *number)
{
    int count = 0;
    *number = 0;
    while (**from >= '0' && **from <= '9' && count < RELEASE_DIGITS) {
        *number = (uint16_t)(*number * 10 + (**from - '0'));
        (*from)++;
        count++;
    }
    return count > 0 && *(*from)++ == end;
}

void lsb_read_release(struct lsb_json *json, uint16_t to[3])
{
    char room[RELEASE_ROOM];
    struct lsb_text text = {room, sizeof room, 0, 0, false};
    const char *next = room;
    lsb_read_string(json, &text);
    const bool is_release = read_number(&next, '.', &to[0]) && read_number(&next, '.', &to[1]) &&
                            read_number(&next, '\0', &to[2]);
    /* A zero character inside is not the end. */
    refuse_unless(json, is_release && !text.cut && next == room + text.stored + 1);
}

uint8_t lsb_read_choice(struct lsb_json *json, const char *const *words)
{
    char room[CHOICE_ROOM];
    struct lsb_text text = {room, sizeof room, 0, 0, false};
    uint8_t index = 0;
    lsb_read_string(json, &text);
    while (words[index] != NULL && !lsb_is_word(&text, words[index])) {
        index++;
    }
    refuse_unless(json, words[index] != NULL);
    return index;
}
