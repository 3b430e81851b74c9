//! The description of the API, for programs that want to speak it.

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::HeaderValue;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use warp::reply::Response;

use crate::routes::get_or_head;

/// OpenAPI 3.1, written by hand; tests compare it with the routes.
const DOCUMENT: &str = include_str!("openapi/document.json");

/// `/api/v1/openapi.json`.
pub(super) fn routes() -> BoxedFilter<(Response,)> {
    warp::path!("api" / "v1" / "openapi.json")
        .and(get_or_head())
        .map(|| {
            let mut response = Response::new(DOCUMENT.into());
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            response
        })
        .boxed()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).expect("the document is JSON")
    }

    /// Every `warp::path!` of the routes, with `{}` for what is variable.
    fn addresses_in_the_code() -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/routes");
        let mut addresses = BTreeSet::new();
        for entry in std::fs::read_dir(folder).expect("the routes") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let source = std::fs::read_to_string(path).expect("a source file");
            // Split in two, so that this line is not taken for a route.
            for rest in source.split(concat!("warp::path", "!(")).skip(1) {
                let (parts, _) = rest.split_once(')').expect("the macro ends");
                let address: String = parts
                    .split('/')
                    .map(|part| part.trim())
                    .map(|part| {
                        part.strip_prefix('"')
                            .map_or("{}", |text| text.trim_end_matches('"'))
                    })
                    .flat_map(|part| ["/", part])
                    .collect();
                addresses.insert(address);
            }
        }
        addresses
    }

    #[test]
    fn the_document_has_every_address_and_no_other() {
        let documented: BTreeSet<String> = document()["paths"]
            .as_object()
            .expect("paths")
            .keys()
            .map(|path| path.replace("{number}", "{}").replace("{id}", "{}"))
            .collect();
        let pages = ["/class/{}", "/recordings/{}", "/favicon.ico"];
        let in_code: BTreeSet<String> = addresses_in_the_code()
            .into_iter()
            .filter(|address| !pages.contains(&address.as_str()))
            .collect();
        assert_eq!(documented, in_code);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, schemas: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                        let name = target.strip_prefix("#/components/schemas/").expect("a schema");
                        assert!(schemas.get(name).is_some(), "{target}");
                    }
                    fields.values().for_each(|value| check(value, schemas));
                }
                Value::Array(values) => values.iter().for_each(|value| check(value, schemas)),
                _ => {}
            }
        }
        let document = document();
        check(&document, &document["components"]["schemas"]);
    }
}
