//! Which route answers a request, and everything that holds for all of them: methods, access, sizes, deadlines, panics.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::Method;
use http::header::{ALLOW, CONTENT_LENGTH, HeaderValue};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::access::Access;
use super::body::{Request, Response, text};
use super::error::ServeError;

/// How large a request's body may be, in bytes.
const BODY_LIMIT: usize = 1024 * 1024;
/// How long a request may take until its answer begins: as long as an API server waits for a webhook at most.
const DEADLINE: Duration = Duration::from_secs(30);

/// Routes by their paths. A path that ends in a slash is answered for, with all below it; any other path is answered for
/// alone. The longest that fits wins. So it is with Go's `ServeMux`, too.
///
/// A router is cheap to clone once it is built.
#[derive(Clone, Debug, Default)]
pub struct Router {
    routes: Arc<BTreeMap<String, Route>>,
}

/// What answers at a path, and within which bounds.
#[derive(Clone)]
pub struct Route {
    answer: Answer,
    methods: Vec<Method>,
    body_limit: usize,
    deadline: Duration,
    access: Option<Access>,
}

type Answer = Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>;

// === impl Route ===

impl Route {
    /// Answers GET and HEAD.
    pub fn get<F, Fut>(answer: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        Self::new([Method::GET, Method::HEAD], answer)
    }

    /// Answers POST.
    pub fn post<F, Fut>(answer: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        Self::new([Method::POST], answer)
    }

    /// Answers these methods. The function's future is dropped when the client gives up or the deadline has passed.
    pub fn new<F, Fut>(methods: impl IntoIterator<Item = Method>, answer: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        Self {
            answer: Arc::new(move |request| answer(request).boxed()),
            methods: methods.into_iter().collect(),
            body_limit: BODY_LIMIT,
            deadline: DEADLINE,
            access: None,
        }
    }

    /// How many bytes a request's body may have; more are refused with 413. The default is 1 MiB.
    #[must_use]
    pub fn body_limit(self, bytes: usize) -> Self {
        Self {
            body_limit: bytes,
            ..self
        }
    }

    /// How long a request may take until its answer begins, its body and the question of access included; later it is
    /// answered with 503. The default is 30 seconds.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Answers only those whom the cluster lets.
    #[must_use]
    pub fn only_with(self, access: Access) -> Self {
        Self {
            access: Some(access),
            ..self
        }
    }

    async fn serve<B>(&self, request: http::Request<B>) -> Response
    where
        B: http_body::Body<Data: Send> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(access) = &self.access {
            let (method, path) = (request.method().as_str(), request.uri().path());
            if let Err(refusal) = access.check(request.headers(), method, path).await {
                return refusal;
            }
        }
        let (head, body) = request.into_parts();
        let declared = head.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
        if declared
            .and_then(|v| v.parse::<u64>().ok())
            .is_some_and(|v| v > self.body_limit as u64)
        {
            return self.too_large();
        }
        let body = match Limited::new(body, self.body_limit).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return self.too_large(),
            Err(error) => {
                tracing::debug!(%error, "a request's body did not come to its end");
                return text(400, "the request's body could not be read\n");
            }
        };
        self.call(Request::from_parts(head, body)).await
    }

    /// Calls the function; what panics, before its future is made or in it, is answered with 500.
    async fn call(&self, request: Request) -> Response {
        let path = request.uri().path().to_owned();
        let answer = async { (self.answer)(request).await };
        match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(response) => response,
            Err(panic) => {
                tracing::error!(path, panic = said(panic.as_ref()), "a route panicked");
                text(500, "internal server error\n")
            }
        }
    }

    fn too_large(&self) -> Response {
        let limit = self.body_limit;
        text(413, format!("the request's body has more than {limit} bytes\n"))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("methods", &self.methods)
            .field("body_limit", &self.body_limit)
            .field("deadline", &self.deadline)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

// === impl Router ===

impl Router {
    /// A router that answers 404.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route.
    ///
    /// # Errors
    /// [`ServeError::PathInvalid`], [`ServeError::PathTaken`].
    pub fn route(mut self, path: impl Into<String>, route: Route) -> Result<Self, ServeError> {
        let path = path.into();
        if !path.starts_with('/') {
            return Err(ServeError::PathInvalid(path));
        }
        let routes = Arc::make_mut(&mut self.routes);
        if routes.contains_key(&path) {
            return Err(ServeError::PathTaken(path));
        }
        routes.insert(path, route);
        Ok(self)
    }

    /// The paths that are answered for, in their order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.routes.keys().map(String::as_str)
    }

    /// Answers a request, by the rules of its route. Never fails and never panics.
    pub async fn answer<B>(&self, request: http::Request<B>) -> Response
    where
        B: http_body::Body<Data: Send> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Some(route) = self.find(request.uri().path()) else {
            return text(404, "404 page not found\n");
        };
        if !route.methods.contains(request.method()) {
            return not_allowed(&route.methods);
        }
        match tokio::time::timeout(route.deadline, route.serve(request)).await {
            Ok(response) => response,
            Err(_) => text(503, format!("no answer within {:?}\n", route.deadline)),
        }
    }

    fn find(&self, path: &str) -> Option<&Route> {
        if let Some(route) = self.routes.get(path) {
            return Some(route);
        }
        let ends = path.char_indices().rev().filter(|(_, c)| *c == '/');
        ends.map(|(at, _)| &path[..=at])
            .find_map(|above| self.routes.get(above))
    }
}

fn not_allowed(methods: &[Method]) -> Response {
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let mut response = text(405, "Method Not Allowed\n");
    if let Ok(allow) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}
