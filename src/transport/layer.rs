//! What the layers of dialling have in common: each stands on another, and every pile of them is a
//! tower service of targets. What a layer does is its own file's affair.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::{Dialling, Target};
use crate::error::{Error, Result};

/// A layer on top of others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct On<L, B> {
    layer: L,
    below: B,
}

/// What a layer makes of a target, with the help of what is below it.
pub(crate) trait Layer<B>: Copy {
    type Made;

    fn dial(
        self,
        below: B,
        target: Arc<Target>,
    ) -> impl Future<Output = Result<Self::Made>> + Send + 'static;
}

/// A service that turns a target into a `T`: what a layer can stand on.
pub(crate) trait Dials<T>:
    Service<Arc<Target>, Response = T, Error = Error, Future: Send> + Clone + Send + 'static
{
}

impl<T, S> Dials<T> for S where
    S: Service<Arc<Target>, Response = T, Error = Error, Future: Send> + Clone + Send + 'static
{
}

// === impl On ===

impl<L, B> Service<Arc<Target>> for On<L, B>
where
    L: Layer<B>,
    B: Service<Arc<Target>, Error = Error> + Clone,
{
    type Response = L::Made;
    type Error = Error;
    type Future = Dialling<L::Made>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.below.poll_ready(cx)
    }

    fn call(&mut self, target: Arc<Target>) -> Self::Future {
        Box::pin(self.layer.dial(self.below.clone(), target))
    }
}
