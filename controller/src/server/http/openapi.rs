//! The API's description in OpenAPI 3.1, derived from the handlers.

use super::Api;
use super::respond::{PART, json};
use axum::response::Response;
use std::sync::LazyLock;
use tandem_api::VERSION_HEADER;
use tandem_api::endpoints::OPENAPI;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{Info, InfoBuilder, OpenApi, OpenApiBuilder, RefOr};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(document))
}

/// What holds for every endpoint.
const ABOUT: &str = "One controller for a data centre's virtual machines and its network. `?after=N` waits up to 10 s for a newer \
    snapshot than N. Whatever is no GET needs the header `X-Tandem-Request: 1`; the Host must be a name of the controller, and an Origin \
    the same. Over TCP it needs a token (`tandem token create`) as `Authorization: Bearer TOKEN`. What cannot be read is 400, a wrong or \
    missing token 401, what may not be asked 403, each with a reason as in the schema Error; while the controller is stopping it is 503.";

/// The document. It is the same for every request, and only made for the first.
static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| {
    let mut document = super::endpoints().split_for_parts().1;
    let reads = document.paths.paths.values_mut().filter_map(|path| path.get.as_mut());
    for response in reads.flat_map(|read| read.responses.responses.values_mut()) {
        if let RefOr::T(response) = response
            && response.description == PART
        {
            response.headers.insert(VERSION_HEADER.to_owned(), RefOr::T(version_header()));
        }
    }
    document
});

/// The header of whatever is a part of the snapshot.
fn version_header() -> Header {
    let number = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).build();
    let about = "the snapshot's version; ?after=VERSION waits for a newer one";
    HeaderBuilder::new().schema(Some(number)).description(Some(about)).build()
}

/// The head of the document.
pub(super) fn about() -> OpenApi {
    let info: Info = InfoBuilder::new()
        .title("Tandem")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .build();
    OpenApiBuilder::new().info(info).build()
}

#[utoipa::path(get, path = OPENAPI.path, summary = OPENAPI.summary, responses(
    (status = 200, description = "this document", content_type = "application/json"),
))]
pub(super) async fn document() -> Response {
    json(&*DOCUMENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::{BTreeMap, BTreeSet};

    type Statuses = BTreeSet<u16>;

    /// Per method and path: the body's schema, and the statuses.
    fn derived() -> BTreeMap<(String, String), (Value, Statuses, String)> {
        let document = serde_json::to_value(&*DOCUMENT).expect("JSON");
        let mut all = BTreeMap::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let responses = operation["responses"].as_object().expect("responses");
                let statuses = responses.keys().map(|s| s.parse().expect("a status")).collect();
                let body = operation["requestBody"]["content"]["application/json"]["schema"].clone();
                let summary = operation["summary"].as_str().unwrap_or_default().to_owned();
                all.insert((method.to_uppercase(), path.clone()), (body, statuses, summary));
            }
        }
        all
    }

    #[test]
    fn the_document_and_the_table_of_endpoints_are_the_same() {
        let mut derived = derived();
        for row in tandem_api::endpoints::all() {
            let name = format!("{} {}", row.method, row.path);
            let key = (row.method.to_string(), row.path.to_owned());
            let (body, statuses, summary) =
                derived.remove(&key).unwrap_or_else(|| panic!("no handler: {name}"));
            assert_eq!(statuses, row.statuses.iter().copied().collect(), "{name}");
            assert_eq!(body.is_null(), row.body == "()", "{name}: {} {body}", row.body);
            assert_eq!(summary, row.summary, "{name}");
        }
        assert!(derived.is_empty(), "the table of endpoints has no {:?}", derived.keys());
    }

    /// Text for Prometheus and this document itself are what they are.
    #[test]
    fn every_answer_has_a_schema() {
        let document = serde_json::to_value(&*DOCUMENT).expect("JSON");
        let own = ["OpenMetrics", "serde_json::Value"];
        for row in
            tandem_api::endpoints::all().iter().filter(|r| r.answer != "()" && !own.contains(&r.answer))
        {
            let method = row.method.as_str().to_lowercase();
            let status = row.statuses[0].to_string();
            let content = &document["paths"][row.path][&method]["responses"][&status]["content"];
            let schemas: Vec<&Value> =
                content.as_object().into_iter().flat_map(|c| c.values()).map(|c| &c["schema"]).collect();
            assert!(
                !schemas.is_empty() && schemas.iter().all(|s| s.is_object()),
                "{method} {}: {content}",
                row.path
            );
        }
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let document = serde_json::to_value(&*DOCUMENT).expect("JSON");
        let text = document.to_string();
        for name in text.split("#/components/schemas/").skip(1).filter_map(|t| t.split('"').next()) {
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
