/* hub_name.c - names of repositories, revisions and files, and addresses: what may be one. */
#include "lifecycle/hub_in.h"

#include <ctype.h>
#include <curl/curl.h>
#include <strings.h>

enum { NAME_MOST = 96, PATH_MOST = 512, URL_MOST = 8192 };

static bool plain(char c) { return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.'; }

static bool part_ok(const char *s, size_t n) {
    if (n == 0 || n > NAME_MOST || !isalnum((unsigned char)s[0])) return false;
    for (size_t i = 0; i < n; i++)
        if (!plain(s[i]) || (i && s[i] == '.' && s[i - 1] == '.')) return false;
    return true;
}

bool fj_hub_parse(const char *what, fj_hub_id *id, fj_err *e) {
    *id = (fj_hub_id){ 0 };
    const char *slash = strchr(what, '/'), *colon = strchr(what, ':');
    size_t n = colon ? (size_t)(colon - what) : strlen(what);
    if (!slash || slash > what + n || !part_ok(what, (size_t)(slash - what)) ||
        !part_ok(slash + 1, n - (size_t)(slash - what) - 1))
        return fj_fail(
            e, FJ_EINVAL,
            "\"%s\" is no model of the Hub: expected OWNER/NAME or OWNER/NAME:FILE, each of "
            "letters, digits, '-', '_' and '.'",
            what);
    memcpy(id->repo, what, n);
    if (!colon) return true;
    const char *bad = fj_hub_name_bad(colon + 1, strlen(colon + 1));
    if (bad) return fj_fail(e, FJ_EINVAL, "\"%s\": the file behind the colon %s", what, bad);
    id->file = fj_strdup(colon + 1);
    return true;
}

bool fj_hub_revision_ok(const char *rev, fj_err *e) {
    size_t n = strlen(rev);
    bool ok =
        n > 0 && n <= 200 && !strstr(rev, "..") && rev[0] != '/' && rev[0] != '-' && rev[0] != '.';
    for (size_t i = 0; ok && i < n; i++) ok = plain(rev[i]) || rev[i] == '/' || rev[i] == '+';
    return ok || fj_fail(e, FJ_EINVAL,
                         "\"%s\" is no revision: expected a branch, a tag or a commit", rev);
}

const char *fj_hub_name_bad(const char *name, size_t n) {
    if (n == 0) return "has an empty name";
    if (n > PATH_MOST) return "has a name of over 512 bytes";
    if (name[0] == '/') return "has a name that begins with '/'";
    size_t from = 0;
    for (size_t i = 0; i <= n; i++) {
        unsigned char c = i < n ? (unsigned char)name[i] : '/';
        if (c < 0x20 || c == 0x7f) return "has a control character in its name";
        if (c == '\\') return "has a backslash in its name";
        if (c != '/') continue;
        size_t k = i - from;
        if (k == 0) return "has an empty part in its name";
        if (k > 255) return "has a part of over 255 bytes in its name";
        if (name[from] == '.' && (k == 1 || (k == 2 && name[from + 1] == '.')))
            return "has \".\" or \"..\" in its name";
        if (from == 0 && k == 6 && !memcmp(name, ".forja", 6))
            return "is in .forja, which is forja's own";
        from = i + 1;
    }
    return NULL;
}

void fj_hub_url_add(fj_str *url, const char *part, bool slashes) {
    for (; *part; part++) {
        if (plain(*part) || (slashes && *part == '/')) fj_str_addc(url, *part);
        else fj_str_addf(url, "%%%02X", (unsigned char)*part);
    }
}

/* A part of an address, "" where there is none; caller frees. */
static char *piece(CURLU *u, CURLUPart what, unsigned flags) {
    char *s = NULL;
    char *copy = fj_strdup(curl_url_get(u, what, &s, flags) == CURLUE_OK && s ? s : "");
    curl_free(s);
    return copy;
}

bool fj_hub_end_open(fj_hub_end *p, const char *endpoint, fj_err *e) {
    *p = (fj_hub_end){ 0 };
    CURLU *u = curl_url();
    char *extra = NULL;
    if (!u) return fj_fail(e, FJ_ENOMEM, "no memory for an address");
    bool ok = strlen(endpoint) < 1024 && curl_url_set(u, CURLUPART_URL, endpoint, 0) == CURLUE_OK;
    if (ok) {
        p->scheme = piece(u, CURLUPART_SCHEME, 0);
        p->host = piece(u, CURLUPART_HOST, 0);
        p->port = piece(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
        extra = piece(u, CURLUPART_QUERY, 0);
        ok = (!strcmp(p->scheme, "https") || !strcmp(p->scheme, "http")) && *p->host && !*extra;
        free(extra);
        extra = piece(u, CURLUPART_USER, 0);
        ok = ok && !*extra;
        free(extra);
        extra = piece(u, CURLUPART_FRAGMENT, 0);
        ok = ok && !*extra;
        p->base = piece(u, CURLUPART_URL, 0);
        for (size_t n = strlen(p->base); n && p->base[n - 1] == '/'; n--) p->base[n - 1] = 0;
    }
    free(extra);
    curl_url_cleanup(u);
    if (ok) return true;
    fj_hub_end_close(p);
    return fj_fail(
        e, FJ_EINVAL,
        "HF_ENDPOINT is not an address such as https://huggingface.co (http or https, no user, "
        "no query)");
}

void fj_hub_end_close(fj_hub_end *p) {
    free(p->base);
    free(p->scheme);
    free(p->host);
    free(p->port);
    *p = (fj_hub_end){ 0 };
}

char *fj_hub_follow(const fj_hub_end *p, const char *url, const char *location, bool *ours,
                    fj_err *e) {
    *ours = false;
    CURLU *u = curl_url();
    char *to = NULL, *scheme = NULL, *host = NULL, *port = NULL;
    unsigned flags = CURLU_URLENCODE | CURLU_NON_SUPPORT_SCHEME | CURLU_DISALLOW_USER;
    CURLUcode rc = CURLUE_BAD_HANDLE;
    if (u && strlen(location) <= URL_MOST) rc = curl_url_set(u, CURLUPART_URL, url, 0);
    if (!rc) rc = curl_url_set(u, CURLUPART_URL, location, flags);
    if (rc == CURLUE_USER_NOT_ALLOWED) {
        fj_fail(e, FJ_EFORMAT, "the server redirects to an address with a user in it");
        goto end;
    }
    if (rc) {
        fj_fail(e, FJ_EFORMAT, "the server redirects to what is no address");
        goto end;
    }
    scheme = piece(u, CURLUPART_SCHEME, 0);
    host = piece(u, CURLUPART_HOST, 0);
    port = piece(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    bool own_host = *host && !strcasecmp(host, p->host);
    if (strcmp(scheme, "https") &&
        !(!strcmp(scheme, "http") && !strcmp(p->scheme, "http") && own_host)) {
        fj_fail(e, FJ_EFORMAT, "the server redirects to %.20s://%.100s; only https is followed",
                scheme, host);
        goto end;
    }
    if (!*host) {
        fj_fail(e, FJ_EFORMAT, "the server redirects to an address without a host");
        goto end;
    }
    *ours = own_host && !strcmp(scheme, p->scheme) && !strcmp(port, p->port);
    to = piece(u, CURLUPART_URL, 0);
end:
    free(scheme);
    free(host);
    free(port);
    curl_url_cleanup(u);
    return to;
}

char *fj_hub_host(const char *url) {
    fj_str s = { 0 };
    CURLU *u = curl_url();
    if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK) {
        char *host = piece(u, CURLUPART_HOST, 0), *port = piece(u, CURLUPART_PORT, 0);
        fj_str_addf(&s, "%.200s%s%s", host, *port ? ":" : "", port);
        free(host);
        free(port);
    } else fj_str_add(&s, "?");
    curl_url_cleanup(u);
    return fj_str_take(&s);
}
