# The service runs as this account, which has no other rights.
resource "google_service_account" "run" {
  account_id   = "${var.service}-run"
  display_name = "${var.service}: runs the service"

  depends_on = [google_project_service.apis]
}

resource "google_project_iam_member" "run" {
  for_each = toset([
    # Metrics, through the Telemetry API. Log entries on stdout need no role.
    "roles/telemetry.metricsWriter",
    "roles/serviceusage.serviceUsageConsumer",
    # Redis accepts access tokens of this account.
    "roles/memorystore.dbConnectionUser"
  ])

  project = var.project
  role    = each.key
  member  = google_service_account.run.member
}

resource "google_secret_manager_secret_iam_member" "run" {
  for_each = merge(
    { token = google_secret_manager_secret.token.id },
    { for region, secret in google_secret_manager_secret.redis_ca : "redis-ca-${region}" => secret.id }
  )

  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.run.member
}
