//! What handlers are given. Each names the part it needs: `State<Reports>`, `State<Queue>`, …

use axum::extract::FromRef;
use tokio::sync::watch;

use crate::{
    report::Reports,
    services::{Activity, Annotations, Images, Predictor, Queue, Services, Weights},
};

/// The router's state.
#[derive(Clone, FromRef)]
pub struct App {
    reports: Reports,
    queue: Queue,
    predictor: Predictor,
    images: Images,
    weights: Weights,
    annotations: Annotations,
    activity: watch::Receiver<Option<Activity>>,
}

impl From<Services> for App {
    fn from(services: Services) -> Self {
        let Services { reports, queue, predictor, images, weights, annotations, activity } = services;
        Self { reports, queue, predictor, images, weights, annotations, activity }
    }
}
