# Dashboard, alerts, log metrics and objectives are the files of example/monitoring, which apply.sh sends to Google as
# they are. Here each field of a file becomes the argument of the same name.
locals {
  monitoring = coalesce(var.monitoring_folder, "${path.module}/../monitoring")
  # Cloud Run gives every service this address in each region. Behind a load balancer it is closed.
  uptime_check = coalesce(var.uptime_check, var.domain == null)
  host         = coalesce(var.domain, "${var.service}-${data.google_project.this.number}.${var.regions[0]}.run.app")

  # Other words in ${}, such as ${__interval}, are Google's.
  monitoring_files = { for name in fileset(local.monitoring, "**/*.json") : name => replace(replace(replace(replace(replace(
    file("${local.monitoring}/${name}"),
    "$${SERVICE}", var.service),
    "$${CLUSTER}", "__run__"),
    "$${RUNBOOK}", var.runbook),
    "$${VALKEY}", "${var.service}-valkey"),
    "$${HOST}", local.host)
  }

  # Of the optional alerts, only those for what this module creates.
  alerts = { for name, text in local.monitoring_files : trimsuffix(basename(name), ".json") => jsondecode(text)
    if dirname(name) == "alerts" || name == "optional/memorystore-valkey.json" || (name == "optional/uptime.json" && local.uptime_check)
  }
  log_metrics       = { for name, text in local.monitoring_files : trimsuffix(basename(name), ".json") => jsondecode(text) if dirname(name) == "log-metrics" }
  objectives        = { for name, text in local.monitoring_files : trimprefix(trimsuffix(name, ".json"), "slo-") => jsondecode(text) if startswith(name, "slo") }
  monitored_service = jsondecode(local.monitoring_files["service.json"])
}

resource "google_monitoring_dashboard" "this" {
  dashboard_json = local.monitoring_files["dashboard.json"]

  depends_on = [google_project_service.apis]
}

resource "google_logging_metric" "this" {
  for_each = local.log_metrics

  name             = each.value.name
  description      = try(each.value.description, null)
  filter           = each.value.filter
  value_extractor  = try(each.value.valueExtractor, null)
  label_extractors = try(each.value.labelExtractors, null)

  metric_descriptor {
    metric_kind  = each.value.metricDescriptor.metricKind
    value_type   = each.value.metricDescriptor.valueType
    unit         = try(each.value.metricDescriptor.unit, null)
    display_name = try(each.value.metricDescriptor.displayName, null)

    dynamic "labels" {
      for_each = try(each.value.metricDescriptor.labels, [])

      content {
        key         = labels.value.key
        value_type  = try(labels.value.valueType, null)
        description = try(labels.value.description, null)
      }
    }
  }

  dynamic "bucket_options" {
    for_each = try([each.value.bucketOptions], [])

    content {
      dynamic "explicit_buckets" {
        for_each = try([bucket_options.value.explicitBuckets], [])

        content {
          bounds = explicit_buckets.value.bounds
        }
      }
      dynamic "exponential_buckets" {
        for_each = try([bucket_options.value.exponentialBuckets], [])

        content {
          num_finite_buckets = exponential_buckets.value.numFiniteBuckets
          growth_factor      = exponential_buckets.value.growthFactor
          scale              = exponential_buckets.value.scale
        }
      }
      dynamic "linear_buckets" {
        for_each = try([bucket_options.value.linearBuckets], [])

        content {
          num_finite_buckets = linear_buckets.value.numFiniteBuckets
          width              = linear_buckets.value.width
          offset             = linear_buckets.value.offset
        }
      }
    }
  }

  depends_on = [google_project_service.apis]
}

resource "google_monitoring_custom_service" "this" {
  service_id   = "${var.service}-websocket"
  display_name = local.monitored_service.displayName
  user_labels  = try(local.monitored_service.userLabels, null)

  depends_on = [google_project_service.apis]
}

resource "google_monitoring_slo" "this" {
  for_each = local.objectives

  service             = google_monitoring_custom_service.this.service_id
  slo_id              = each.key
  display_name        = each.value.displayName
  goal                = each.value.goal
  rolling_period_days = tonumber(trimsuffix(each.value.rollingPeriod, "s")) / 86400
  user_labels         = try(each.value.userLabels, null)

  dynamic "request_based_sli" {
    for_each = try([each.value.serviceLevelIndicator.requestBased], [])
    iterator = sli

    content {
      dynamic "distribution_cut" {
        for_each = try([sli.value.distributionCut], [])

        content {
          distribution_filter = distribution_cut.value.distributionFilter

          range {
            min = try(distribution_cut.value.range.min, null)
            max = try(distribution_cut.value.range.max, null)
          }
        }
      }
      dynamic "good_total_ratio" {
        for_each = try([sli.value.goodTotalRatio], [])

        content {
          good_service_filter  = try(good_total_ratio.value.goodServiceFilter, null)
          bad_service_filter   = try(good_total_ratio.value.badServiceFilter, null)
          total_service_filter = try(good_total_ratio.value.totalServiceFilter, null)
        }
      }
    }
  }

  dynamic "windows_based_sli" {
    for_each = try([each.value.serviceLevelIndicator.windowsBased], [])
    iterator = sli

    content {
      window_period          = try(sli.value.windowPeriod, null)
      good_bad_metric_filter = try(sli.value.goodBadMetricFilter, null)

      dynamic "metric_mean_in_range" {
        for_each = try([sli.value.metricMeanInRange], [])

        content {
          time_series = metric_mean_in_range.value.timeSeries

          range {
            min = try(metric_mean_in_range.value.range.min, null)
            max = try(metric_mean_in_range.value.range.max, null)
          }
        }
      }
    }
  }
}

# Google probes from several places whether the service answers.
resource "google_monitoring_uptime_check_config" "this" {
  count = local.uptime_check ? 1 : 0

  display_name = "${var.service}: /health"
  timeout      = "10s"
  period       = "60s"

  http_check {
    path         = "/health"
    port         = 443
    use_ssl      = true
    validate_ssl = true
  }

  monitored_resource {
    type = "uptime_url"
    labels = {
      project_id = data.google_project.this.project_id
      host       = local.host
    }
  }

  depends_on = [google_project_service.apis]
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerts

  display_name          = each.value.displayName
  combiner              = each.value.combiner
  severity              = try(each.value.severity, null)
  enabled               = try(each.value.enabled, null)
  user_labels           = try(each.value.userLabels, null)
  notification_channels = var.notification_channels

  documentation {
    subject   = try(each.value.documentation.subject, null)
    content   = each.value.documentation.content
    mime_type = try(each.value.documentation.mimeType, null)

    dynamic "links" {
      for_each = try(each.value.documentation.links, [])

      content {
        display_name = try(links.value.displayName, null)
        url          = links.value.url
      }
    }
  }

  dynamic "alert_strategy" {
    for_each = try([each.value.alertStrategy], [])

    content {
      auto_close = try(alert_strategy.value.autoClose, null)

      dynamic "notification_rate_limit" {
        for_each = try([alert_strategy.value.notificationRateLimit], [])

        content {
          period = notification_rate_limit.value.period
        }
      }
    }
  }

  dynamic "conditions" {
    for_each = each.value.conditions

    content {
      display_name = conditions.value.displayName

      dynamic "condition_prometheus_query_language" {
        for_each = try([conditions.value.conditionPrometheusQueryLanguage], [])
        iterator = promql

        content {
          query                     = promql.value.query
          duration                  = try(promql.value.duration, null)
          evaluation_interval       = try(promql.value.evaluationInterval, null)
          disable_metric_validation = try(promql.value.disableMetricValidation, null)
          labels                    = try(promql.value.labels, null)
          rule_group                = try(promql.value.ruleGroup, null)
          alert_rule                = try(promql.value.alertRule, null)
        }
      }

      dynamic "condition_threshold" {
        for_each = try([conditions.value.conditionThreshold], [])
        iterator = threshold

        content {
          filter                  = threshold.value.filter
          comparison              = threshold.value.comparison
          threshold_value         = try(threshold.value.thresholdValue, 0)
          duration                = threshold.value.duration
          denominator_filter      = try(threshold.value.denominatorFilter, null)
          evaluation_missing_data = try(threshold.value.evaluationMissingData, null)

          dynamic "aggregations" {
            for_each = try(threshold.value.aggregations, [])

            content {
              alignment_period     = try(aggregations.value.alignmentPeriod, null)
              per_series_aligner   = try(aggregations.value.perSeriesAligner, null)
              cross_series_reducer = try(aggregations.value.crossSeriesReducer, null)
              group_by_fields      = try(aggregations.value.groupByFields, null)
            }
          }
          dynamic "denominator_aggregations" {
            for_each = try(threshold.value.denominatorAggregations, [])

            content {
              alignment_period     = try(denominator_aggregations.value.alignmentPeriod, null)
              per_series_aligner   = try(denominator_aggregations.value.perSeriesAligner, null)
              cross_series_reducer = try(denominator_aggregations.value.crossSeriesReducer, null)
              group_by_fields      = try(denominator_aggregations.value.groupByFields, null)
            }
          }
          dynamic "trigger" {
            for_each = try([threshold.value.trigger], [])

            content {
              count   = try(trigger.value.count, null)
              percent = try(trigger.value.percent, null)
            }
          }
        }
      }

      dynamic "condition_absent" {
        for_each = try([conditions.value.conditionAbsent], [])
        iterator = absent

        content {
          filter   = absent.value.filter
          duration = absent.value.duration

          dynamic "aggregations" {
            for_each = try(absent.value.aggregations, [])

            content {
              alignment_period     = try(aggregations.value.alignmentPeriod, null)
              per_series_aligner   = try(aggregations.value.perSeriesAligner, null)
              cross_series_reducer = try(aggregations.value.crossSeriesReducer, null)
              group_by_fields      = try(aggregations.value.groupByFields, null)
            }
          }
          dynamic "trigger" {
            for_each = try([absent.value.trigger], [])

            content {
              count   = try(trigger.value.count, null)
              percent = try(trigger.value.percent, null)
            }
          }
        }
      }

      dynamic "condition_matched_log" {
        for_each = try([conditions.value.conditionMatchedLog], [])
        iterator = log

        content {
          filter           = log.value.filter
          label_extractors = try(log.value.labelExtractors, null)
        }
      }
    }
  }

  # They may refer to a log metric or an objective.
  depends_on = [google_logging_metric.this, google_monitoring_slo.this]
}
