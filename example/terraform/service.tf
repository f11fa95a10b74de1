locals {
  redis_ca_folder = "/secrets/redis-ca"

  # An instance cannot see its own settings. Cloud Run itself sets PORT, K_SERVICE and K_REVISION.
  env = { for region in var.regions : region => merge(
    {
      CLOUD_RUN_TIMEOUT_SECONDS = tostring(var.timeout)
      CLOUD_RUN_CONCURRENCY     = tostring(var.concurrency)
      CLOUD_RUN_MAX_INSTANCES   = tostring(var.max_instances)
      REDIS_URL                 = local.redis_urls[local.redis_of[region]]
      REDIS_CA_FILE             = "${local.redis_ca_folder}/ca.pem"
      REDIS_AUTH                = "iam"
    },
    var.redis_shards == null ? {} : { REDIS_CLUSTER = "true" },
    # The app reads these two: README.md has the lines.
    var.domain == null ? {} : { TRUSTED_PROXIES = "1" },
    length(distinct(values(local.redis_of))) == 1 ? {} : { REDIS_READINESS = "always" },
    var.env
  ) }
}

resource "google_cloud_run_v2_service" "this" {
  provider = google-beta
  for_each = toset(var.regions)

  name                = var.service
  location            = each.key
  deletion_protection = var.deletion_protection
  # Browsers have no Google identity. Users log in to the app.
  invoker_iam_disabled = true
  # Clients that bypass the load balancer would bypass Cloud Armor, and could forge their address.
  ingress = var.domain == null ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"

  # For all revisions together: a rollout does not keep more instances than this.
  scaling {
    min_instance_count = var.min_instances
    max_instance_count = var.max_instances
  }

  template {
    service_account                  = google_service_account.run.email
    timeout                          = "${var.timeout}s"
    max_instance_request_concurrency = var.concurrency
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    # With affinity, Cloud Run sends a returning browser to its instance even if that instance is not ready.
    session_affinity = false

    scaling {
      # Without it a revision has at most 100.
      max_instance_count      = var.max_instances
      concurrency_utilization = var.concurrency_target
    }

    vpc_access {
      egress = "PRIVATE_RANGES_ONLY"

      network_interfaces {
        network    = google_compute_network.this.id
        subnetwork = google_compute_subnetwork.run[each.key].id
      }
    }

    containers {
      image = var.image

      # http1: an upgrade to WebSocket is HTTP/1.
      ports {
        name           = "http1"
        container_port = 8080
      }

      resources {
        # Heartbeat, metrics and Redis keep working without connections. An instance with connections is billed anyway.
        cpu_idle          = false
        startup_cpu_boost = true
        limits = {
          cpu    = var.cpu
          memory = var.memory
        }
      }

      dynamic "env" {
        for_each = local.env[each.key]

        content {
          name  = env.key
          value = env.value
        }
      }

      env {
        name = "TOKEN_SECRET"

        value_source {
          secret_key_ref {
            secret  = google_secret_manager_secret.token.secret_id
            version = google_secret_manager_secret_version.token.version
          }
        }
      }

      volume_mounts {
        name       = "redis-ca"
        mount_path = local.redis_ca_folder
      }

      # Clients come only once Redis answers.
      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 180

        http_get {
          path = "/ready"
        }
      }

      # New clients go elsewhere, and connected clients stay.
      readiness_probe {
        period_seconds    = 5
        timeout_seconds   = 3
        failure_threshold = 2
        success_threshold = 1

        http_get {
          path = "/ready"
        }
      }

      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 6

        http_get {
          path = "/health"
        }
      }
    }

    volumes {
      name = "redis-ca"

      secret {
        secret = google_secret_manager_secret.redis_ca[local.redis_of[each.key]].secret_id

        items {
          version = google_secret_manager_secret_version.redis_ca[local.redis_of[each.key]].version
          path    = "ca.pem"
        }
      }
    }
  }

  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = var.canary_percent
    # The newest revision's own address, to look at it before it has clients.
    tag = "newest"
  }

  dynamic "traffic" {
    for_each = var.canary_percent == 100 ? [] : [var.stable_revisions[each.key]]

    content {
      type     = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
      revision = traffic.value
      percent  = 100 - var.canary_percent
    }
  }

  # A deployment fails if an instance starts before it may read its secrets and log in to Redis.
  depends_on = [google_project_iam_member.run, google_secret_manager_secret_iam_member.run]
}
