#define _GNU_SOURCE
// string.find, match, gmatch and gsub with their work counted: a pattern such as ".-.-.-x" takes time that grows with a
// power of the text, inside C, where no hook fires.
//
// Derived from lstrlib.c of Lua 5.4. Copyright (C) 1994-2022 Lua.org, PUC-Rio. Permission is hereby granted, free of
// charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal
// in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
// distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to
// do so, subject to the following conditions: the above copyright notice and this permission notice shall be included in
// all copies or substantial portions of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND,
// EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE
// AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
// LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
// SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
#include <ctype.h>
#include <string.h>

#include "internal.h"

enum { CAPTURES_MAX = 32, CALLS_MAX = 150, ESCAPE = '%', CHARGE_EVERY = 1024, BYTES_PER_STEP = 64 };
#define CAPTURE_UNFINISHED (-1)
#define CAPTURE_POSITION (-2)
#define UCHAR(c) ((unsigned char)(c))

typedef struct {
    const char *source_begin;
    const char *source_end;
    const char *pattern_end;
    lua_State *L;
    int depth_left;
    unsigned work;
    unsigned char level;
    struct { const char *begin; ptrdiff_t length; } capture[CAPTURES_MAX];
} match_state;

static const char *match(match_state *ms, const char *s, const char *p);

// One comparison was made.
static inline void count_work(match_state *ms) {
    if (++ms->work < CHARGE_EVERY) return;
    ms->work = 0;
    limits_charge(ms->L, CHARGE_EVERY);
}

static int check_capture(match_state *ms, int l) {
    l -= '1';
    if (l < 0 || l >= ms->level || ms->capture[l].length == CAPTURE_UNFINISHED)
        return luaL_error(ms->L, "invalid capture index %%%d", l + 1);
    return l;
}

static int capture_to_close(match_state *ms) {
    int level = ms->level;
    for (level--; level >= 0; level--) {
        if (ms->capture[level].length == CAPTURE_UNFINISHED) return level;
    }
    return luaL_error(ms->L, "invalid pattern capture");
}

static const char *class_end(match_state *ms, const char *p) {
    if (*p++ == ESCAPE) {
        if (p == ms->pattern_end) luaL_error(ms->L, "malformed pattern (ends with '%%')");
        return p + 1;
    }
    if (p[-1] != '[') return p;
    if (*p == '^') p++;
    do {
        if (p == ms->pattern_end) luaL_error(ms->L, "malformed pattern (missing ']')");
        if (*(p++) == ESCAPE && p < ms->pattern_end) p++;
    } while (*p != ']');
    return p + 1;
}

static bool match_class(int c, int class) {
    bool result;
    switch (tolower(class)) {
    case 'a': result = isalpha(c); break;
    case 'c': result = iscntrl(c); break;
    case 'd': result = isdigit(c); break;
    case 'g': result = isgraph(c); break;
    case 'l': result = islower(c); break;
    case 'p': result = ispunct(c); break;
    case 's': result = isspace(c); break;
    case 'u': result = isupper(c); break;
    case 'w': result = isalnum(c); break;
    case 'x': result = isxdigit(c); break;
    default: return class == c;
    }
    return isupper(class) ? !result : result;
}

static bool match_bracket(match_state *ms, int c, const char *p, const char *end) {
    bool positive = true;
    if (*(p + 1) == '^') {
        positive = false;
        p++;
    }
    while (++p < end) {
        count_work(ms);
        if (*p == ESCAPE) {
            p++;
            if (match_class(c, UCHAR(*p))) return positive;
        } else if (*(p + 1) == '-' && (p + 2 < end)) {
            p += 2;
            if (UCHAR(*(p - 2)) <= c && c <= UCHAR(*p)) return positive;
        } else if (UCHAR(*p) == c) {
            return positive;
        }
    }
    return !positive;
}

static bool single_match(match_state *ms, const char *s, const char *p, const char *ep) {
    count_work(ms);
    if (s >= ms->source_end) return false;
    int c = UCHAR(*s);
    switch (*p) {
    case '.': return true;
    case ESCAPE: return match_class(c, UCHAR(*(p + 1)));
    case '[': return match_bracket(ms, c, p, ep - 1);
    default: return UCHAR(*p) == c;
    }
}

static const char *match_balance(match_state *ms, const char *s, const char *p) {
    if (p >= ms->pattern_end - 1) luaL_error(ms->L, "malformed pattern (missing arguments to '%%b')");
    if (s >= ms->source_end || *s != *p) return NULL;
    int begin = *p, end = *(p + 1), level = 1;
    while (++s < ms->source_end) {
        count_work(ms);
        if (*s == end) {
            if (--level == 0) return s + 1;
        } else if (*s == begin) {
            level++;
        }
    }
    return NULL;
}

static const char *max_expand(match_state *ms, const char *s, const char *p, const char *ep) {
    ptrdiff_t i = 0;
    while (single_match(ms, s + i, p, ep)) i++;
    while (i >= 0) {
        const char *result = match(ms, s + i, ep + 1);
        if (result) return result;
        i--;
    }
    return NULL;
}

static const char *min_expand(match_state *ms, const char *s, const char *p, const char *ep) {
    for (;;) {
        const char *result = match(ms, s, ep + 1);
        if (result) return result;
        if (!single_match(ms, s, p, ep)) return NULL;
        s++;
    }
}

static const char *start_capture(match_state *ms, const char *s, const char *p, int what) {
    int level = ms->level;
    if (level >= CAPTURES_MAX) luaL_error(ms->L, "too many captures");
    ms->capture[level].begin = s;
    ms->capture[level].length = what;
    ms->level = (unsigned char)(level + 1);
    const char *result = match(ms, s, p);
    if (!result) ms->level--;
    return result;
}

static const char *end_capture(match_state *ms, const char *s, const char *p) {
    int l = capture_to_close(ms);
    ms->capture[l].length = s - ms->capture[l].begin;
    const char *result = match(ms, s, p);
    if (!result) ms->capture[l].length = CAPTURE_UNFINISHED;
    return result;
}

static const char *match_capture(match_state *ms, const char *s, int l) {
    l = check_capture(ms, l);
    ptrdiff_t length = ms->capture[l].length;
    // A position capture has nothing to compare with.
    if (length < 0) return NULL;
    limits_charge(ms->L, (uint64_t)length / BYTES_PER_STEP);
    if (ms->source_end - s >= length && memcmp(ms->capture[l].begin, s, (size_t)length) == 0) return s + length;
    return NULL;
}

static const char *match_frontier(match_state *ms, const char *s, const char *p, const char **next) {
    if (*p != '[') luaL_error(ms->L, "missing '[' after '%%f' in pattern");
    const char *ep = class_end(ms, p);
    int previous = s == ms->source_begin ? '\0' : UCHAR(*(s - 1));
    int current = s == ms->source_end ? '\0' : UCHAR(*s);
    *next = ep;
    return !match_bracket(ms, previous, p, ep - 1) && match_bracket(ms, current, p, ep - 1) ? s : NULL;
}

// What follows a single character class: ? + * - or nothing. Sets `*p` and returns true where matching goes on.
static bool match_default(match_state *ms, const char **s, const char **p, const char **result) {
    const char *ep = class_end(ms, *p);
    char suffix = ep < ms->pattern_end ? *ep : '\0';
    if (!single_match(ms, *s, *p, ep)) {
        if (suffix == '*' || suffix == '?' || suffix == '-') {
            *p = ep + 1;
            return true;
        }
        *result = NULL;
        return false;
    }
    switch (suffix) {
    case '?':
        if ((*result = match(ms, *s + 1, ep + 1)) != NULL) return false;
        *p = ep + 1;
        return true;
    case '+': *result = max_expand(ms, *s + 1, *p, ep); return false;
    case '*': *result = max_expand(ms, *s, *p, ep); return false;
    case '-': *result = min_expand(ms, *s, *p, ep); return false;
    default:
        (*s)++;
        *p = ep;
        return true;
    }
}

static const char *match_items(match_state *ms, const char *s, const char *p) {
    const char *result = NULL;
    while (p != ms->pattern_end) {
        count_work(ms);
        switch (*p) {
        case '(': return *(p + 1) == ')' ? start_capture(ms, s, p + 2, CAPTURE_POSITION) : start_capture(ms, s, p + 1, CAPTURE_UNFINISHED);
        case ')': return end_capture(ms, s, p + 1);
        case '$':
            if (p + 1 == ms->pattern_end) return s == ms->source_end ? s : NULL;
            break;
        case ESCAPE:
            if (*(p + 1) == 'b') {
                if (!(s = match_balance(ms, s, p + 2))) return NULL;
                p += 4;
                continue;
            }
            if (*(p + 1) == 'f') {
                if (!(s = match_frontier(ms, s, p + 2, &p))) return NULL;
                continue;
            }
            if (isdigit(UCHAR(*(p + 1)))) {
                if (!(s = match_capture(ms, s, UCHAR(*(p + 1))))) return NULL;
                p += 2;
                continue;
            }
            break;
        default: break;
        }
        if (!match_default(ms, &s, &p, &result)) return result;
    }
    return s;
}

static const char *match(match_state *ms, const char *s, const char *p) {
    if (ms->depth_left-- == 0) luaL_error(ms->L, "pattern too complex");
    const char *result = match_items(ms, s, p);
    ms->depth_left++;
    return result;
}

static size_t capture_at(match_state *ms, int l, const char *s, const char *e, const char **text) {
    if (l >= ms->level) {
        if (l != 0) luaL_error(ms->L, "invalid capture index %%%d", l + 1);
        *text = s;
        return (size_t)(e - s);
    }
    ptrdiff_t length = ms->capture[l].length;
    *text = ms->capture[l].begin;
    if (length == CAPTURE_UNFINISHED) luaL_error(ms->L, "unfinished capture");
    if (length == CAPTURE_POSITION) lua_pushinteger(ms->L, ms->capture[l].begin - ms->source_begin + 1);
    return (size_t)length;
}

static void push_capture(match_state *ms, int l, const char *s, const char *e) {
    const char *text;
    size_t length = capture_at(ms, l, s, e, &text);
    if ((ptrdiff_t)length != CAPTURE_POSITION) lua_pushlstring(ms->L, text, length);
}

static int push_captures(match_state *ms, const char *s, const char *e) {
    int count = ms->level == 0 && s ? 1 : ms->level;
    luaL_checkstack(ms->L, count, "too many captures");
    for (int l = 0; l < count; l++) push_capture(ms, l, s, e);
    return count;
}

static void prepare(match_state *ms, lua_State *L, const char *s, size_t ls, const char *p, size_t lp) {
    ms->L = L;
    ms->work = 0;
    ms->source_begin = s;
    ms->source_end = s + ls;
    ms->pattern_end = p + lp;
}

static void reprepare(match_state *ms) {
    ms->level = 0;
    ms->depth_left = CALLS_MAX;
}

static size_t start_position(lua_Integer position, size_t length) {
    if (position > 0) return (size_t)position;
    if (position == 0 || position < -(lua_Integer)length) return 1;
    return length + (size_t)position + 1;
}

static int find_plain(lua_State *L, const char *s, size_t ls, const char *p, size_t lp, size_t init) {
    limits_charge(L, 1 + (ls - init) / BYTES_PER_STEP);
    const char *found = memmem(s + init, ls - init, p, lp);
    if (!found) {
        luaL_pushfail(L);
        return 1;
    }
    lua_pushinteger(L, found - s + 1);
    lua_pushinteger(L, found - s + (lua_Integer)lp);
    return 2;
}

static int find_or_match(lua_State *L, bool find) {
    size_t ls, lp;
    const char *s = luaL_checklstring(L, 1, &ls);
    const char *p = luaL_checklstring(L, 2, &lp);
    size_t init = start_position(luaL_optinteger(L, 3, 1), ls) - 1;
    if (init > ls) {
        luaL_pushfail(L);
        return 1;
    }
    if (find && (lua_toboolean(L, 4) || strpbrk(p, "^$*+?.([%-") == NULL)) {
        // strpbrk stops at a zero byte, after which a special character may follow.
        if (lua_toboolean(L, 4) || strlen(p) == lp) return find_plain(L, s, ls, p, lp, init);
    }
    match_state ms;
    const char *s1 = s + init;
    bool anchor = *p == '^';
    if (anchor) {
        p++;
        lp--;
    }
    prepare(&ms, L, s, ls, p, lp);
    do {
        reprepare(&ms);
        const char *e = match(&ms, s1, p);
        if (e) {
            limits_charge(L, ms.work);
            if (!find) return push_captures(&ms, s1, e);
            lua_pushinteger(L, s1 - s + 1);
            lua_pushinteger(L, e - s);
            return push_captures(&ms, NULL, NULL) + 2;
        }
    } while (s1++ < ms.source_end && !anchor);
    limits_charge(L, ms.work);
    luaL_pushfail(L);
    return 1;
}

static int string_find(lua_State *L) { return find_or_match(L, true); }
static int string_match(lua_State *L) { return find_or_match(L, false); }

typedef struct {
    const char *source;
    const char *pattern;
    const char *last_match;
    match_state ms;
} gmatch_state;

static int gmatch_next(lua_State *L) {
    gmatch_state *gm = lua_touserdata(L, lua_upvalueindex(3));
    gm->ms.L = L;
    for (const char *source = gm->source; source <= gm->ms.source_end; source++) {
        reprepare(&gm->ms);
        const char *e = match(&gm->ms, source, gm->pattern);
        if (e && e != gm->last_match) {
            gm->source = gm->last_match = e;
            return push_captures(&gm->ms, source, e);
        }
    }
    return 0;
}

static int string_gmatch(lua_State *L) {
    size_t ls, lp;
    const char *s = luaL_checklstring(L, 1, &ls);
    const char *p = luaL_checklstring(L, 2, &lp);
    size_t init = start_position(luaL_optinteger(L, 3, 1), ls) - 1;
    lua_settop(L, 2);
    gmatch_state *gm = lua_newuserdatauv(L, sizeof *gm, 0);
    if (init > ls) init = ls + 1;
    prepare(&gm->ms, L, s, ls, p, lp);
    gm->source = s + init;
    gm->pattern = p;
    gm->last_match = NULL;
    lua_pushcclosure(L, gmatch_next, 3);
    return 1;
}

static void add_text(match_state *ms, luaL_Buffer *b, const char *s, const char *e) {
    size_t length;
    lua_State *L = ms->L;
    const char *news = lua_tolstring(L, 3, &length), *p;
    while ((p = memchr(news, ESCAPE, length)) != NULL) {
        const char *text;
        luaL_addlstring(b, news, (size_t)(p - news));
        p++;
        if (*p == ESCAPE) {
            luaL_addchar(b, *p);
        } else if (*p == '0') {
            luaL_addlstring(b, s, (size_t)(e - s));
        } else if (isdigit(UCHAR(*p))) {
            size_t captured = capture_at(ms, *p - '1', s, e, &text);
            if ((ptrdiff_t)captured == CAPTURE_POSITION) {
                luaL_addvalue(b);
            } else {
                luaL_addlstring(b, text, captured);
            }
        } else {
            luaL_error(L, "invalid use of '%%' in replacement string");
        }
        length -= (size_t)(p + 1 - news);
        news = p + 1;
    }
    luaL_addlstring(b, news, length);
}

static bool add_value(match_state *ms, luaL_Buffer *b, const char *s, const char *e, int type) {
    lua_State *L = ms->L;
    if (type == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(ms, s, e), 1);
    } else if (type == LUA_TTABLE) {
        push_capture(ms, 0, s, e);
        lua_gettable(L, 3);
    } else {
        add_text(ms, b, s, e);
        return true;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(b, s, (size_t)(e - s));
        return false;
    }
    if (!lua_isstring(L, -1)) return luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    luaL_addvalue(b);
    return true;
}

static int string_gsub(lua_State *L) {
    size_t ls, lp;
    const char *source = luaL_checklstring(L, 1, &ls), *p = luaL_checklstring(L, 2, &lp), *last_match = NULL;
    int type = lua_type(L, 3);
    lua_Integer count_max = luaL_optinteger(L, 4, (lua_Integer)ls + 1), count = 0;
    bool anchor = *p == '^', changed = false;
    luaL_argexpected(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE, 3,
        "string/function/table");
    if (type == LUA_TNUMBER) lua_tolstring(L, 3, NULL);
    match_state ms;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    if (anchor) {
        p++;
        lp--;
    }
    prepare(&ms, L, source, ls, p, lp);
    const char *s = source;
    while (count < count_max) {
        reprepare(&ms);
        const char *e = match(&ms, s, p);
        if (e && e != last_match) {
            count++;
            changed = add_value(&ms, &b, s, e, type) | changed;
            s = last_match = e;
        } else if (s < ms.source_end) {
            luaL_addchar(&b, *s++);
        } else {
            break;
        }
        if (anchor) break;
    }
    limits_charge(L, ms.work);
    if (!changed) {
        lua_pushvalue(L, 1);
    } else {
        luaL_addlstring(&b, s, (size_t)(ms.source_end - s));
        luaL_pushresult(&b);
    }
    lua_pushinteger(L, count);
    return 2;
}

const luaL_Reg pattern_functions[] = {
    {"find", string_find}, {"match", string_match}, {"gmatch", string_gmatch}, {"gsub", string_gsub}, {NULL, NULL}};
