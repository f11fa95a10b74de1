# The value is generated when it is needed, and is in no plan and no state.
ephemeral "random_password" "token" {
  length  = 43
  special = false
}

# Signs the tokens of SDK clients, the same in all regions.
resource "google_secret_manager_secret" "token" {
  secret_id = "${var.service}-token-secret"

  replication {
    auto {}
  }

  depends_on = [google_project_service.apis]
}

resource "google_secret_manager_secret_version" "token" {
  secret                 = google_secret_manager_secret.token.id
  secret_data_wo         = ephemeral.random_password.token.result
  secret_data_wo_version = var.token_secret_version
  # Instances of the previous revision may still start with it.
  deletion_policy = "ABANDON"

  lifecycle {
    create_before_destroy = true
  }
}

# Cloud Run mounts files from secrets only.
resource "google_secret_manager_secret" "redis_ca" {
  for_each = toset(values(local.redis_of))

  secret_id = "${var.service}-redis-ca-${each.key}"

  replication {
    auto {}
  }

  depends_on = [google_project_service.apis]
}

resource "google_secret_manager_secret_version" "redis_ca" {
  for_each = local.redis_cas

  secret          = google_secret_manager_secret.redis_ca[each.key].id
  secret_data     = each.value
  deletion_policy = "ABANDON"

  lifecycle {
    create_before_destroy = true
  }
}
