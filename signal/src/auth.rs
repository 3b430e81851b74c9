//! Who a request comes from: host tokens as a cookie or a bearer, and whether it comes from our own pages.

use std::collections::BTreeMap;

use seodang_model::protocol::ErrorCode;
use seodang_model::{RoomNumber, Token, TokenHash};
use warp::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use warp::http::uri::Authority;
use warp::http::{HeaderMap, HeaderValue, Uri};

use crate::error::ApiError;

/// A host's cookie is this and the room's number.
const COOKIE_PREFIX: &str = "seodang_host_";
/// How long a browser keeps a host's cookie, in seconds: a term. Every room has one, and all of them have to fit into
/// a request's header.
const COOKIE_AGE_S: u32 = 90 * 24 * 60 * 60;
/// Set by our pages on every request that changes something; other sites cannot set it without asking first.
const OWN_HEADER: &str = "x-seodang";

/// The host tokens that a request presents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    bearer: Option<Token>,
    cookies: BTreeMap<RoomNumber, Token>,
}

impl Credentials {
    /// Reads them from a request; whatever is malformed is not there.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(|token| Token::presented(token.trim()));
        let cookies = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().strip_prefix(COOKIE_PREFIX)?.split_once('='))
            .filter_map(|(number, token)| Some((number.parse().ok()?, Token::presented(token))))
            .collect();
        Self { bearer, cookies }
    }

    /// Whether any of them opens a room whose host token has this hash.
    pub(crate) fn is_host(&self, number: &RoomNumber, host_token: TokenHash) -> bool {
        self.bearer
            .iter()
            .chain(self.cookies.get(number))
            .any(|token| token.hash() == host_token)
    }

    /// Whether something is presented for this room, right or wrong.
    pub(crate) fn claims(&self, number: &RoomNumber) -> bool {
        self.bearer.is_some() || self.cookies.contains_key(number)
    }

    /// The bearer, if there is one.
    pub(crate) const fn bearer(&self) -> Option<&Token> {
        self.bearer.as_ref()
    }
}

/// The cookie that makes a browser a room's host.
pub(crate) fn host_cookie(number: &RoomNumber, token: &Token, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE_PREFIX}{number}={}; Path=/; Max-Age={COOKIE_AGE_S}; HttpOnly; SameSite=Strict{secure}",
        token.as_str()
    );
    let mut value = HeaderValue::try_from(cookie).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Refuses a request that a browser sends for another site's page. Programs send no `Origin`.
///
/// # Errors
/// [`ErrorCode::BadOrigin`].
pub(crate) fn check_origin(headers: &HeaderMap, public_url: Option<&str>) -> Result<(), ApiError> {
    match headers.get(ORIGIN) {
        Some(origin) if !is_own(origin, headers, public_url) => Err(ApiError::new(
            ErrorCode::BadOrigin,
            "the request comes from another site",
        )),
        _ => Ok(()),
    }
}

/// Refuses a request that changes something unless one of our pages or the holder of a bearer sends it.
///
/// # Errors
/// [`ErrorCode::BadOrigin`].
pub(crate) fn check_change(headers: &HeaderMap, public_url: Option<&str>) -> Result<(), ApiError> {
    check_origin(headers, public_url)?;
    let own_page = headers.contains_key(ORIGIN) && headers.get(OWN_HEADER).is_some_and(|value| value == "1");
    if own_page || Credentials::of(headers).bearer.is_some() {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::BadOrigin,
        "the headers Origin and X-Seodang: 1, or a bearer token, are missing",
    ))
}

/// Whether `origin` is where the page itself came from: the host it was asked under, or the public address.
fn is_own(origin: &HeaderValue, headers: &HeaderMap, public_url: Option<&str>) -> bool {
    let Some(origin) = origin.to_str().ok() else {
        return false;
    };
    if public_url.is_some_and(|url| url.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Ok(uri) = origin.parse::<Uri>() else {
        return false;
    };
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .and_then(|host| host.parse::<Authority>().ok());
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some()
        && uri.authority() == host.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_by_bearer_or_by_the_cookie_of_that_room() {
        let (token, other) = (Token::random(), Token::random());
        let (room, elsewhere): (RoomNumber, RoomNumber) = (number("math-7b"), number("art"));
        let cookie = headers(&[("cookie", &format!("a=b; seodang_host_math-7b={}", token.as_str()))]);
        let credentials = Credentials::of(&cookie);
        assert!(credentials.is_host(&room, token.hash()));
        assert!(!credentials.is_host(&room, other.hash()));
        assert!(
            !credentials.is_host(&elsewhere, token.hash()),
            "a cookie is for its room alone"
        );
        let bearer = headers(&[("authorization", &format!("Bearer {}", token.as_str()))]);
        assert!(Credentials::of(&bearer).is_host(&elsewhere, token.hash()));
        assert!(!format!("{credentials:?}").contains(token.as_str()));
    }

    #[test]
    fn our_own_cookie_reads_back() {
        let (room, token) = (number("math-7b"), Token::random());
        let cookie = host_cookie(&room, &token, true);
        let text = cookie.to_str().expect("plain").to_owned();
        for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
            assert!(text.contains(part), "{part}");
        }
        let pair = text.split(';').next().expect("a pair");
        assert!(Credentials::of(&headers(&[("cookie", pair)])).is_host(&room, token.hash()));
        assert!(
            !host_cookie(&room, &token, false)
                .to_str()
                .expect("plain")
                .contains("Secure")
        );
    }

    #[test]
    fn other_sites_are_refused() {
        let allowed = [
            headers(&[("host", "a.example:8080"), ("origin", "http://a.example:8080")]),
            headers(&[("host", "A.example"), ("origin", "https://a.example")]),
            headers(&[("host", "inner"), ("origin", "https://class.example.org")]),
            headers(&[("host", "a.example")]),
        ];
        for headers in allowed {
            assert!(
                check_origin(&headers, Some("https://class.example.org")).is_ok(),
                "{headers:?}"
            );
        }
        for origin in [
            "https://evil.example",
            "null",
            "http://a.example",
            "file://a.example:8080",
            "é",
        ] {
            let headers = headers(&[("host", "a.example:8080"), ("origin", origin)]);
            assert!(check_origin(&headers, None).is_err(), "{origin}");
        }
    }

    #[test]
    fn a_change_needs_our_page_or_a_bearer() {
        let own = headers(&[("host", "a"), ("origin", "http://a"), ("x-seodang", "1")]);
        assert!(check_change(&own, None).is_ok());
        assert!(check_change(&headers(&[("host", "a"), ("authorization", "Bearer x")]), None).is_ok());
        for wrong in [
            headers(&[("host", "a"), ("origin", "http://a")]),
            headers(&[("host", "a"), ("x-seodang", "1")]),
            headers(&[
                ("host", "a"),
                ("origin", "http://b"),
                ("x-seodang", "1"),
                ("authorization", "Bearer x"),
            ]),
        ] {
            assert!(check_change(&wrong, None).is_err(), "{wrong:?}");
        }
    }

    fn number(text: &str) -> RoomNumber {
        text.parse().expect("a number")
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    name.parse().expect("a name"),
                    HeaderValue::from_str(value).expect("a value"),
                )
            })
            .collect()
    }
}
