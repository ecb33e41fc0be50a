//! How the operator speaks to the pods of its Jobs: signed requests over HTTP, to whichever pod of the Job runs.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use reqwest::Method;

use crate::worker::signed::{PublicKey, Request, Signer, now as milliseconds};

/// Speaks to pods in the operator's name. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    client: Client,
    http: reqwest::Client,
    signer: Arc<Signer>,
}

/// Whose pod is spoken to.
#[derive(Clone, Debug)]
pub struct Callee {
    /// The Migration's UID, which its workers know it by.
    pub migration: String,
    /// Namespace of the Job.
    pub namespace: String,
    /// Name of the Job.
    pub job: String,
    /// Port that its pod listens on.
    pub port: u16,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// `GET` or `POST`.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// The body.
    pub body: Vec<u8>,
    /// How long the answer may take.
    pub timeout: Duration,
}

/// Why a pod gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The API server gave no answer.
    #[error("its pod could not be looked for")]
    Look(#[source] kube::Error),
    /// It wasn't reached, or its answer can't be read.
    #[error("it was not reached")]
    Reach(#[source] reqwest::Error),
    /// It refused.
    #[error("it answered with status {0}")]
    Status(reqwest::StatusCode),
}

impl Caller {
    /// Calls through `http`, signed by `signer`.
    pub fn new(client: Client, http: reqwest::Client, signer: Signer) -> Self {
        Self { client, http, signer: Arc::new(signer) }
    }

    /// What workers are told to know us by.
    pub fn public_key(&self) -> PublicKey {
        self.signer.public_key()
    }

    /// For what is kept in the cluster of what was heard.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The address of a Job's pod, once it runs.
    pub async fn find(&self, callee: &Callee) -> Result<Option<String>, CallError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &callee.namespace);
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={}", callee.job));
        let pods = pods.list(&of_job).await.map_err(CallError::Look)?.items;
        let runs = |pod: &&Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
        };
        let ip = pods.iter().find(runs).and_then(|pod| pod.status.as_ref()?.pod_ip.clone());
        Ok(ip.map(|ip| if ip.contains(':') { format!("[{ip}]") } else { ip }))
    }

    /// Asks the pod at an address.
    pub async fn ask(&self, callee: &Callee, address: &str, call: Call<'_>) -> Result<reqwest::Response, CallError> {
        let Call { method, path, body, timeout } = call;
        let time = milliseconds();
        let signed = Request { method: method.as_str(), path, uid: &callee.migration, time, body: &body };
        let headers = self.signer.headers(&signed);
        let mut request = self.http.request(method, format!("http://{address}:{}{path}", callee.port));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.timeout(timeout).body(body).send().await.map_err(CallError::Reach)?;
        if answer.status().is_success() { Ok(answer) } else { Err(CallError::Status(answer.status())) }
    }
}
