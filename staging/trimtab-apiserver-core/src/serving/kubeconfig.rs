//! The kubeconfig that a server writes for its administrator.

use base64::Engine as _;
use serde_json::json;
use trimtab_apiserver_auth::certs::Pair;

/// A kubeconfig (YAML) with everything in it: address, authority, client certificate and key.
pub(crate) fn kubeconfig(url: &str, authority: &str, admin: &Pair) -> String {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "trimtab", "cluster": {"server": url, "certificate-authority-data": encode(authority)}}],
        "contexts": [{"name": "trimtab", "context": {"cluster": "trimtab", "user": "admin"}}],
        "current-context": "trimtab",
        "users": [{"name": "admin", "user": {
            "client-certificate-data": encode(&admin.certificate),
            "client-key-data": encode(&admin.key),
        }}],
    });
    crate::http::to_yaml(&config)
}
