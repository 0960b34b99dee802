//! The report for programs.

use super::Report;

/// One JSON object and a line break.
pub fn render(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::sample;
    use super::*;

    #[test]
    fn the_fields_that_programs_read_are_there() {
        let value: serde_json::Value = serde_json::from_str(&render(&sample::report()).unwrap()).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["operations"], 123_456);
        assert_eq!(value["latencies"][0]["name"], "delivery");
        assert!(value["latencies"][0]["p999_us"].as_u64().unwrap() > 0);
        assert_eq!(value["verification"]["lost"], 1);
        assert_eq!(value["errors"]["by_kind"]["router QUOTA"], 2);
        assert_eq!(value["router"]["cpu_us_per_operation"], 73.0);
        assert_eq!(value["router"]["memory_after"]["pss_bytes"], 19 << 20);
        assert_eq!(value["loadgen"]["is_limit"], false);
        assert_eq!(value["options"]["pairs"], 4);
    }
}
