data "google_project" "this" {
  project_id = var.project
}

resource "google_project_service" "apis" {
  for_each = toset([
    "billingbudgets", "compute", "iam", "logging", "memorystore", "monitoring", "networkconnectivity", "run", "secretmanager",
    "serviceconsumermanagement", "telemetry"
  ])

  service = "${each.key}.googleapis.com"
  # Others in the project may use it too.
  disable_on_destroy = false
}
