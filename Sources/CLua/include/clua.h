// A sandboxed Lua 5.4 state whose every entry is protected.
//
// Lua reports errors and suspends coroutines with longjmp. No such jump may cross a Swift frame, so:
//  - each function here that runs Lua does so inside lua_pcall or lua_resume and returns a status;
//  - each callback into Swift returns normally; what it has to complain about it leaves in the `clua_value` or in the
//    state's scratch buffer, and C raises it after the callback's frame is gone.
//
// A state is used by one thread at a time; which one may change between calls.
#ifndef CLUA_H
#define CLUA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct clua_state clua_state;

// What a call ended with. `clua_message` tells more about anything but CLUA_OK and CLUA_YIELD.
typedef enum {
    CLUA_OK = 0,
    // A coroutine waits for the answer to a request that `prepare_request` took.
    CLUA_YIELD = 1,
    // The connector's code failed; the state can be used again.
    CLUA_ERROR = 2,
    // An instruction, memory or time limit was passed; the state must be destroyed.
    CLUA_LIMIT = 3,
    // A callback asked for the end of the call (CLUA_VALUE_STOP); the callback knows why.
    CLUA_STOPPED = 4,
} clua_status;

// What a handle stands for. Lua sees userdata; the object belongs to Swift and lives until `clua_end_call`.
typedef enum {
    CLUA_HANDLE_VIEW = 0,     // a JSON object or array: bytes of `object` from `offset`, `length` long
    CLUA_HANDLE_NUMBER = 1,   // a JSON number that neither an integer nor a float holds without losing digits
    CLUA_HANDLE_REQUEST = 2,  // a webhook request
    CLUA_HANDLE_REPLY = 3,    // the answer to a request
    CLUA_HANDLE_HEADERS = 4,  // headers of either
    CLUA_HANDLE_JOB = 5,      // what a filter is told of a job besides its record
} clua_handle_kind;
enum { CLUA_HANDLE_KINDS = 6 };

typedef struct {
    uint32_t kind;
    // The call in which the handle was made; it is refused in any other.
    uint32_t epoch;
    void *object;
    size_t offset;
    size_t length;
    // An index of the elements or members, made by the callbacks when first needed; null before.
    void *index;
} clua_handle;

typedef enum {
    CLUA_VALUE_NIL = 0,
    CLUA_VALUE_NULL,      // json_null
    CLUA_VALUE_BOOL,      // in `integer`
    CLUA_VALUE_INTEGER,
    CLUA_VALUE_FLOAT,     // in `number`
    CLUA_VALUE_STRING,    // in the scratch buffer, `length` long
    CLUA_VALUE_HANDLE,    // in `handle`; its epoch is filled in by C
    CLUA_VALUE_ERROR,     // an error that the code may catch; text in the scratch buffer, `length` long
    CLUA_VALUE_STOP,      // ends the call with CLUA_STOPPED; cannot be caught
} clua_value_kind;

typedef struct {
    uint32_t kind;
    int64_t integer;
    double number;
    size_t length;
    clua_handle handle;
    // Bytes that had to be read to find the value; charged against the instruction limit.
    size_t scanned;
} clua_value;

// Which helper Lua calls: see `clua_callbacks.helper`.
typedef enum {
    CLUA_HELPER_BASE64_ENCODE = 0,
    CLUA_HELPER_HMAC_SHA256_HEX = 1,
    CLUA_HELPER_URL_ENCODE = 2,
    CLUA_HELPER_PARSE_HTTP_DATE = 3,
    CLUA_HELPER_JSON_DECODE = 4,
    CLUA_HELPER_POLL_FAILURE = 5,
} clua_helper;
enum { CLUA_HELPERS = 6 };

// What a poll's result is made of: see `clua_callbacks.emit`.
typedef enum {
    CLUA_EMIT_RECORDS = 0,  // an array view: each element is a record
    CLUA_EMIT_RECORD = 1,   // a view that is one record
    CLUA_EMIT_DERIVED = 2,  // bytes of a record that the connector made
    CLUA_EMIT_NEXT = 3,     // bytes of next_poll
    CLUA_EMIT_MORE = 4,     // can_poll_more is true
    CLUA_EMIT_WARNING = 5,  // text of a warning
    CLUA_EMIT_EPOCH = 6,    // text of epoch
} clua_emission;

// How Lua reaches Swift. None of these may raise; `context` is what was given to `clua_create`.
typedef struct {
    // A field of a handle by its name.
    void (*member)(clua_state *state, void *context, clua_handle *handle, const char *key, size_t length, clua_value *out);
    // An element of an array view, from 1.
    void (*element)(clua_state *state, void *context, clua_handle *handle, int64_t position, clua_value *out);
    // How many elements or members; an integer, nil if the handle has none, or an error.
    void (*count)(clua_state *state, void *context, clua_handle *handle, clua_value *out);
    // The key (or position) or the value at a position, from 1; nil past the end.
    void (*entry)(clua_state *state, void *context, clua_handle *handle, int64_t position, bool wantsKey, clua_value *out);
    // Appends the handle's JSON to the output buffer; an error if it has none.
    void (*append_json)(clua_state *state, void *context, clua_handle *handle, clua_value *out);
    // Appends a string as a JSON literal to the output buffer; an error if it is not UTF-8.
    void (*append_string)(clua_state *state, void *context, const char *bytes, size_t length, clua_value *out);
    // Appends a finite float to the output buffer so that it reads back the same.
    void (*append_float)(clua_state *state, void *context, double number);
    // A helper function on one or two strings; the second is null if it was not given.
    void (*helper)(clua_state *state, void *context, uint32_t which, const char *first, size_t firstLength, const char *second,
        size_t secondLength, clua_value *out);
    // Takes the request that stands in the output buffer as JSON: {"method":…,"options":{…},"url":…}.
    void (*prepare_request)(clua_state *state, void *context, clua_value *out);
    // Takes a part of a poll's result: bytes or a handle.
    void (*emit)(clua_state *state, void *context, uint32_t what, const char *bytes, size_t length, clua_handle *handle, clua_value *out);
} clua_callbacks;

typedef struct {
    uint64_t instructions;
    uint64_t nanoseconds;
} clua_limits;

typedef enum {
    CLUA_ARGUMENT_NIL = 0,
    CLUA_ARGUMENT_HANDLE = 1,
    // The handle's value as Lua tables, which the code may change.
    CLUA_ARGUMENT_TABLE = 2,
    CLUA_ARGUMENT_STRING = 3,
    // Any value, as the callbacks give it; a string must not be used here.
    CLUA_ARGUMENT_VALUE = 4,
} clua_argument_kind;

typedef struct {
    uint32_t kind;
    clua_handle handle;
    clua_value value;
    const char *bytes;
    size_t length;
} clua_argument;

// What a function must return, and what is left in the output buffer.
typedef enum {
    // A sequence of strings: for each its length as 4 bytes, native order, then its bytes.
    CLUA_RESULT_STRINGS = 0,
    // A string or an integer: its text.
    CLUA_RESULT_TEXT = 1,
    // As CLUA_RESULT_TEXT, or nil: then `clua_result_is_nil`.
    CLUA_RESULT_OPTIONAL_TEXT = 2,
    // Records, at most CLUA_RECORDS_MAX: emitted one by one. A single object counts as a list of one, nil as an empty one.
    CLUA_RESULT_RECORDS = 3,
    // Exactly one value, true, false or nil: see `clua_result_flag`.
    CLUA_RESULT_FLAG = 4,
} clua_result;
enum { CLUA_RECORDS_MAX = 10000 };

// A new state, or null if there is no memory. `context` goes to each callback.
clua_state *clua_create(const clua_callbacks *callbacks, void *context, size_t memory_bytes_max);
void clua_destroy(clua_state *state);

// Runs the source, which must return a table. Leaves that table as JSON in the output buffer, a function as
// {"$function":N,"line":L}, where N counts from 1 in the order of the output.
clua_status clua_load(clua_state *state, const char *source, size_t length, const char *chunk_name, clua_limits limits);

// Compiles a filter, an expression or a body with `return`, as function 1 of two arguments, `record` and `job`. Nothing is run.
// Its environment is the sandbox without requests and encodings. `is_body` says whose error is told where it is neither.
clua_status clua_load_filter(
    clua_state *state, const char *source, size_t length, bool is_body, const char *chunk_name, clua_limits limits);

// Calls the function with this number.
clua_status clua_call(
    clua_state *state, int function, const clua_argument *arguments, int count, clua_result result, clua_limits limits);

// For `records_max`: the result is no page but any value, emitted as CLUA_EMIT_NEXT; nothing is emitted for nil.
typedef enum { CLUA_ONE_VALUE = -1 } clua_result_form;

// Starts the function in a coroutine. CLUA_YIELD: make the request and go on with `clua_resume`. CLUA_OK: the parts of
// the result were emitted.
clua_status clua_start(
    clua_state *state, int function, const clua_argument *arguments, int count, int records_max, clua_limits limits);
clua_status clua_resume(clua_state *state, const clua_argument *argument);

// Ends what began with a call: every handle is void from now on. Collects garbage if there is much of it.
void clua_end_call(clua_state *state);

// Text about the last call that failed, UTF-8 or nearly so.
const char *clua_message(const clua_state *state);
bool clua_result_is_nil(const clua_state *state);
// True for `true`, false for `false` and nil.
bool clua_result_flag(const clua_state *state);
const char *clua_output(const clua_state *state, size_t *length);
size_t clua_memory_used(const clua_state *state);

// For callbacks: a buffer of `length` bytes for a string, or null if there is no memory for it.
char *clua_scratch(clua_state *state, size_t length);
// For callbacks: appends to the output buffer. A full buffer is noticed by C after the callback returned.
void clua_append(clua_state *state, const char *bytes, size_t length);

#endif
