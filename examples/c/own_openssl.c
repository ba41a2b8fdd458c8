/* SPDX-License-Identifier: Apache-2.0
 *
 * A program that speaks TLS by its own OpenSSL while libskytls does by its. Linked against the system's OpenSSL
 * both share one copy; with OpenSSL built into libskytls there are two, which do not touch each other.
 *
 *   cc own_openssl.c $(pkg-config --cflags --libs skytls libssl libcrypto) -o own_openssl
 *   ./own_openssl CA_FILE HOST PORT
 */
#include <openssl/ssl.h>
#include <skytls.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int result, skytls_error *error)
{
    if (result != SKYTLS_OK) {
        fprintf(stderr, "%s\n", skytls_error_message(error));
        exit(1);
    }
}

/* One handshake of the program's own. */
static int own_handshake(const char *ca, const char *host, const char *address)
{
    int done = 0;
    SSL *ssl = NULL;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    BIO *bio = BIO_new_ssl_connect(context);
    BIO_get_ssl(bio, &ssl);
    if (SSL_CTX_load_verify_locations(context, ca, NULL) == 1 && ssl != NULL) {
        SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
        X509_STORE *store = SSL_CTX_get_cert_store(context);
        SSL_set1_verify_cert_store(ssl, store);
        SSL_set_tlsext_host_name(ssl, host);
        SSL_set1_host(ssl, host);
        /* What a gRPC server insists on. */
        SSL_set_alpn_protos(ssl, (const unsigned char *)"\x02h2", 3);
        BIO_set_conn_hostname(bio, address);
        done = BIO_do_handshake(bio) == 1;
        if (done)
            printf("own: %s with %s\n", OpenSSL_version(OPENSSL_VERSION), SSL_get_cipher(ssl));
    }
    BIO_free_all(bio);
    SSL_CTX_free(context);
    return done;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    char address[256];
    snprintf(address, sizeof address, "%s:%s", argv[2], argv[3]);
    skytls_error *error = NULL;
    skytls_agent *agent = NULL;
    skytls_config *config = skytls_config_new();
    check(skytls_config_set(config, "agent.service_name", "own-openssl", &error), error);
    check(skytls_config_set(config, "agent.ssl_trusted_ca_path", argv[1], &error), error);
    check(skytls_config_set(config, "collector.backend_service", address, &error), error);
    check(skytls_agent_new(config, &agent, &error), error);
    skytls_config_free(config);
    check(skytls_agent_start(agent, &error), error);

    for (int i = 0; i < 10; i++) {
        skytls_segment *segment = NULL;
        check(skytls_segment_new(agent, &segment, &error), error);
        int32_t span = skytls_segment_exit(segment, "handshake", SKYTLS_NTS, address, SKYTLS_NTS, SKYTLS_NO_SPAN);
        if (!own_handshake(argv[1], argv[2], address))
            return 1;
        skytls_span_end(segment, span, 0);
        check(skytls_segment_report(segment, agent, &error), error);
    }
    check(skytls_agent_flush(agent, SKYTLS_DELIVERED, 10000, &error), error);

    skytls_status status = {.size = sizeof status};
    skytls_library_info library = {.size = sizeof library};
    check(skytls_agent_status(agent, &status, &error), error);
    check(skytls_library(&library, &error), error);
    printf("skytls: %s (%s) with %s\n", library.openssl_version, library.openssl_origin, status.cipher);
    printf("%u copies of OpenSSL:\n%s\n", library.openssl_copies, library.openssl_paths);
    check(skytls_agent_stop(agent, 1000, NULL, &error), error);
    skytls_agent_free(agent);
    return 0;
}
