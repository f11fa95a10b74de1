# Global external Application Load Balancer, if there is a domain. An A record of the domain has to point to its address.
locals {
  with_load_balancer = var.domain == null ? 0 : 1
}

resource "google_compute_global_address" "this" {
  count = local.with_load_balancer

  name = var.service

  depends_on = [google_project_service.apis]
}

resource "google_compute_region_network_endpoint_group" "run" {
  for_each = toset(var.domain == null ? [] : var.regions)

  name                  = var.service
  region                = each.key
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = google_cloud_run_v2_service.this[each.key].name
  }
}

resource "google_compute_security_policy" "this" {
  count = local.with_load_balancer

  name = var.service

  # Only requests are counted. Messages on an open WebSocket are not.
  rule {
    description = "one address"
    priority    = 1000
    action      = "throttle"

    match {
      versioned_expr = "SRC_IPS_V1"

      config {
        src_ip_ranges = ["*"]
      }
    }

    rate_limit_options {
      enforce_on_key = "IP"
      conform_action = "allow"
      exceed_action  = "deny(429)"

      rate_limit_threshold {
        count        = var.requests_per_minute
        interval_sec = 60
      }
    }
  }

  rule {
    description = "everything else"
    priority    = 2147483647
    action      = "allow"

    match {
      versioned_expr = "SRC_IPS_V1"

      config {
        src_ip_ranges = ["*"]
      }
    }
  }

  depends_on = [google_project_service.apis]
}

# No timeout_sec: a serverless backend does not accept one, and Cloud Run's own limit of an hour applies.
resource "google_compute_backend_service" "this" {
  count = local.with_load_balancer

  name                  = var.service
  load_balancing_scheme = "EXTERNAL_MANAGED"
  security_policy       = google_compute_security_policy.this[0].id

  dynamic "backend" {
    for_each = google_compute_region_network_endpoint_group.run

    content {
      group = backend.value.id
    }
  }
}

resource "google_compute_url_map" "this" {
  count = local.with_load_balancer

  name            = var.service
  default_service = google_compute_backend_service.this[0].id
}

resource "google_compute_managed_ssl_certificate" "this" {
  count = local.with_load_balancer

  name = var.service

  managed {
    domains = [var.domain]
  }

  depends_on = [google_project_service.apis]
}

resource "google_compute_target_https_proxy" "this" {
  count = local.with_load_balancer

  name             = var.service
  url_map          = google_compute_url_map.this[0].id
  ssl_certificates = [google_compute_managed_ssl_certificate.this[0].id]
}

resource "google_compute_global_forwarding_rule" "https" {
  count = local.with_load_balancer

  name                  = "${var.service}-https"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.this[0].id
  port_range            = "443"
  target                = google_compute_target_https_proxy.this[0].id
}

resource "google_compute_url_map" "redirect" {
  count = local.with_load_balancer

  name = "${var.service}-redirect"

  default_url_redirect {
    https_redirect         = true
    strip_query            = false
    redirect_response_code = "MOVED_PERMANENTLY_DEFAULT"
  }
}

resource "google_compute_target_http_proxy" "redirect" {
  count = local.with_load_balancer

  name    = "${var.service}-redirect"
  url_map = google_compute_url_map.redirect[0].id
}

resource "google_compute_global_forwarding_rule" "http" {
  count = local.with_load_balancer

  name                  = "${var.service}-http"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.this[0].id
  port_range            = "80"
  target                = google_compute_target_http_proxy.redirect[0].id
}
