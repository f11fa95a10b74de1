locals {
  # Cloud Run keeps up to two addresses for each instance, and in a rollout the old revision's instances live for up to
  # an hour beside the new ones: four for each. Google keeps four of each subnet for itself.
  run_prefix = min(26, 32 - ceil(log(4 * var.max_instances + 4, 2)))

  # Each region gets a sixteenth of the range, so that the subnet of its instances can grow in place.
  region_ranges = { for i, region in var.regions : region => cidrsubnet(var.address_range, 4, i) }
  region_prefix = tonumber(split("/", var.address_range)[1]) + 4
  run_ranges    = { for region, range in local.region_ranges : region => cidrsubnet(range, local.run_prefix - local.region_prefix, 0) }
  # The last eight addresses.
  redis_ranges = { for region, range in local.region_ranges : region => cidrsubnet(range, 29 - local.region_prefix, pow(2, 29 - local.region_prefix) - 1) }
}

resource "google_compute_network" "this" {
  name                    = var.service
  auto_create_subnetworks = false

  depends_on = [google_project_service.apis]
}

# Direct VPC egress: instances have addresses in it.
resource "google_compute_subnetwork" "run" {
  for_each = local.run_ranges

  name          = "${var.service}-run"
  region        = each.key
  network       = google_compute_network.this.id
  ip_cidr_range = each.value
}

# The endpoints of Redis have addresses in it.
resource "google_compute_subnetwork" "redis" {
  for_each = local.redis_ranges

  name          = "${var.service}-redis"
  region        = each.key
  network       = google_compute_network.this.id
  ip_cidr_range = each.value
}

# Lets Memorystore create its endpoints in that subnet.
resource "google_network_connectivity_service_connection_policy" "redis" {
  for_each = local.redis_ranges

  name          = "${var.service}-redis"
  location      = each.key
  service_class = "gcp-memorystore"
  network       = google_compute_network.this.id

  psc_config {
    subnetworks = [google_compute_subnetwork.redis[each.key].id]
  }
}
