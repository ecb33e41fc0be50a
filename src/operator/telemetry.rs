//! Logs with fields, and traces by OTLP where they are asked for.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    runtime::Tokio,
    trace::{SdkTracerProvider, span_processor_with_async_runtime::BatchSpanProcessor},
};
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::config::LogFormat;

/// What is logged where `RUST_LOG` says nothing.
const DEFAULT_FILTER: &str = "info,kube_client=warn,kube_runtime=warn";

/// Sends what is left of the traces when it is dropped.
#[derive(Default)]
pub struct Telemetry(Option<SdkTracerProvider>);

/// Why traces can't be sent.
#[derive(Debug, thiserror::Error)]
#[error("traces can't be sent to the OTLP endpoint")]
pub struct TelemetryError(#[from] opentelemetry_otlp::ExporterBuildError);

/// Begins to log, and to trace if there is an endpoint. Call it once, inside the runtime.
///
/// # Errors
/// The endpoint makes no sense.
pub fn install(format: LogFormat, otlp_endpoint: Option<&str>) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => tracing_subscriber::fmt::layer().boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer().json().flatten_event(true).boxed(),
    };
    let provider = otlp_endpoint.map(provider).transpose()?;
    let traces =
        provider.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("alongside")));
    Registry::default().with(lines).with(traces).with(filter).init();
    Ok(Telemetry(provider))
}

fn provider(endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).build()?;
    let processor = BatchSpanProcessor::builder(exporter, Tokio).build();
    let resource = Resource::builder().with_service_name("alongside").build();
    Ok(SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource).build())
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take() {
            // What can't be sent any more is lost; the process ends either way.
            let _ = provider.shutdown();
        }
    }
}
