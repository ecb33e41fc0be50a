//! Prints the CustomResourceDefinition as YAML. `make generate` writes it to `crds/` and into the chart.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", serde_saphyr::to_string(&alongside::api::crd::crd())?);
    Ok(())
}
