/* SPDX-License-Identifier: Apache-2.0
 *
 * A PKCS#11 module with faults to order, in front of another one: SKYTLS_PKCS11_MODULE.
 *
 * The file FAULTY_TOKEN names says what is wrong at the moment: "removed", as of a token that was pulled
 * out, "sessions", as of one that has no session left, or "pin", as of one whose PIN was changed. A removed token forgets its sessions and logins.
 * PKCS#11's structures are declared as far as they are used (PKCS#11 2.40, section 3).
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long CK;
typedef CK (*call)();

struct functions {
    unsigned char version[2];
    call function[68];
};

/* Places in CK_FUNCTION_LIST. */
enum {
    GET_SLOT_INFO = 5, GET_TOKEN_INFO = 6, GET_MECHANISM_LIST = 7, GET_MECHANISM_INFO = 8, OPEN_SESSION = 12,
    CLOSE_ALL = 14, SESSION_INFO = 15, LOGIN = 18, GET_ATTRIBUTE = 24, FIND_INIT = 26, SIGN_INIT = 42, SIGN = 43
};

static struct functions *real, faulty;
static CK slot;

static int is(const char *fault) {
    char text[32] = "";
    FILE *file = fopen(getenv("FAULTY_TOKEN"), "r");
    if (file) {
        if (!fgets(text, sizeof text, file)) text[0] = 0;
        fclose(file);
    }
    return strstr(text, fault) != NULL;
}

static int gone(void) {
    static int before;
    int now = is("removed");
    if (now && !before) real->function[CLOSE_ALL](slot);
    before = now;
    return now;
}

#define TOKEN_NOT_PRESENT 0xE0
#define DEVICE_REMOVED 0x32
#define PIN_INCORRECT 0xA0
#define SESSION_COUNT 0xB1

static CK get_token_info(CK at, void *info) {
    return gone() ? TOKEN_NOT_PRESENT : real->function[GET_TOKEN_INFO](at, info);
}
static CK get_mechanism_list(CK at, void *list, void *count) {
    return gone() ? TOKEN_NOT_PRESENT : real->function[GET_MECHANISM_LIST](at, list, count);
}
static CK open_session(CK at, CK flags, void *data, void *notify, void *session) {
    if (gone()) return TOKEN_NOT_PRESENT;
    if (is("sessions")) return SESSION_COUNT;
    slot = at;
    return real->function[OPEN_SESSION](at, flags, data, notify, session);
}
static CK session_info(CK session, void *info) {
    return gone() ? DEVICE_REMOVED : real->function[SESSION_INFO](session, info);
}
static CK login(CK session, CK user, void *pin, CK length) {
    if (gone()) return DEVICE_REMOVED;
    return is("pin") ? PIN_INCORRECT : real->function[LOGIN](session, user, pin, length);
}
static CK get_attribute(CK session, CK object, void *list, CK count) {
    return gone() ? DEVICE_REMOVED : real->function[GET_ATTRIBUTE](session, object, list, count);
}
static CK find_init(CK session, void *list, CK count) {
    return gone() ? DEVICE_REMOVED : real->function[FIND_INIT](session, list, count);
}
static CK sign_init(CK session, void *mechanism, CK key) {
    return gone() ? DEVICE_REMOVED : real->function[SIGN_INIT](session, mechanism, key);
}
static CK sign(CK session, void *data, CK length, void *signature, void *size) {
    return gone() ? DEVICE_REMOVED : real->function[SIGN](session, data, length, signature, size);
}

CK C_GetFunctionList(struct functions **list) {
    void *module = dlopen(getenv("SKYTLS_PKCS11_MODULE"), RTLD_NOW);
    call get = module ? (call)dlsym(module, "C_GetFunctionList") : NULL;
    if (!get || get(&real)) return 5; /* CKR_GENERAL_ERROR */
    faulty = *real;
    faulty.function[GET_TOKEN_INFO] = get_token_info;
    faulty.function[GET_MECHANISM_LIST] = get_mechanism_list;
    faulty.function[OPEN_SESSION] = open_session;
    faulty.function[SESSION_INFO] = session_info;
    faulty.function[LOGIN] = login;
    faulty.function[GET_ATTRIBUTE] = get_attribute;
    faulty.function[FIND_INIT] = find_init;
    faulty.function[SIGN_INIT] = sign_init;
    faulty.function[SIGN] = sign;
    *list = &faulty;
    return 0;
}
