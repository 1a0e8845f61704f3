//! Writes families of metrics, and what their values are made of.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

use super::super::histogram::Histogram;

/// Names and values, in the order in which they are written.
pub(super) type Labels<'a> = Vec<(&'a str, &'a str)>;

/// Writes families of metrics.
pub(super) struct Page<'a> {
    pub(super) encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    pub(super) fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder.encode_descriptor(name, help, None, kind)
    }

    pub(super) fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// The encoder appends `_total` to the name.
    pub(super) fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let none: Option<&Exemplar<NoLabelSet, f64>> = None;
        let mut family = self.family(name, help, MetricType::Counter)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_counter(&value, none)?;
            } else {
                family
                    .encode_family(&labels)?
                    .encode_counter(&value, none)?;
            }
        }
        Ok(())
    }

    pub(super) fn histogram<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, &'l Histogram)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Histogram)?;
        for (labels, histogram) in samples {
            let buckets = histogram.buckets();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = histogram.sum_seconds();
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// A time of day as a metric: seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// A truth value as a metric.
pub(super) const fn truth(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric is a float; its reader lives with 53 bits"
)]
pub(super) const fn float(number: u64) -> f64 {
    number as f64
}

pub(super) fn count_of(number: usize) -> f64 {
    float(u64::try_from(number).unwrap_or(u64::MAX))
}
