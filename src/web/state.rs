//! What handlers are given. Each names the part it needs: `State<Reports>`, `State<Queue>`, …

use axum::extract::FromRef;
use tokio::sync::watch;

use crate::{
    report::Reports,
    services::{Activity, Images, Predictor, Queue, Services},
};

/// The router's state.
#[derive(Clone, FromRef)]
pub struct App {
    reports: Reports,
    queue: Queue,
    predictor: Predictor,
    images: Images,
    activity: watch::Receiver<Option<Activity>>,
}

impl From<Services> for App {
    fn from(services: Services) -> Self {
        let Services { reports, queue, predictor, images, activity } = services;
        Self { reports, queue, predictor, images, activity }
    }
}
