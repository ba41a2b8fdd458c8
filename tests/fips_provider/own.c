/* SPDX-License-Identifier: Apache-2.0
 *
 * A FIPS provider that needs no fipsmodule.cnf, as distributions build theirs: it brings the checksum of its
 * module along. The module is upstream's, MODULE, and its checksum is MAC.
 */
#include <dlfcn.h>
#include <string.h>
#include <openssl/core_dispatch.h>

static OSSL_FUNC_core_get_params_fn *asked;

static void answer(OSSL_PARAM *param, const char *value) {
    *(const char **)param->data = value;
    param->return_size = strlen(value);
}

static int get_params(const OSSL_CORE_HANDLE *handle, OSSL_PARAM params[]) {
    int result = asked(handle, params);
    for (OSSL_PARAM *param = params; param->key; param++) {
        if (!strcmp(param->key, "module-filename")) answer(param, MODULE);
        if (!strcmp(param->key, "module-mac")) answer(param, MAC);
    }
    return result;
}

int OSSL_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
                       void **context) {
    static OSSL_DISPATCH table[256];
    void *module = dlopen(MODULE, RTLD_NOW | RTLD_LOCAL);
    OSSL_provider_init_fn *init = module ? (OSSL_provider_init_fn *)dlsym(module, "OSSL_provider_init") : NULL;
    int i = 0;
    for (; in[i].function_id && i < 255; i++) {
        table[i] = in[i];
        if (in[i].function_id == OSSL_FUNC_CORE_GET_PARAMS) {
            asked = OSSL_FUNC_core_get_params(&in[i]);
            table[i].function = (void (*)(void))get_params;
        }
    }
    table[i].function_id = 0;
    return init && init(handle, table, out, context);
}
