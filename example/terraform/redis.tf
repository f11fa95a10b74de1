locals {
  # For each region, the region whose Redis it uses.
  redis_of = { for region in var.regions : region => coalesce(var.redis_region, region) }
}

# Memorystore for Valkey connects the instances.
resource "google_memorystore_instance" "redis" {
  for_each = toset(values(local.redis_of))

  instance_id    = "${var.service}-valkey"
  location       = each.key
  engine_version = var.redis_version
  node_type      = var.redis_node_type
  mode           = var.redis_shards == null ? "CLUSTER_DISABLED" : "CLUSTER"
  shard_count    = coalesce(var.redis_shards, 1)
  replica_count  = var.redis_replicas

  # Neither can be changed later.
  transit_encryption_mode = "SERVER_AUTHENTICATION"
  authorization_mode      = "IAM_AUTH"

  desired_auto_created_endpoints {
    network    = google_compute_network.this.id
    project_id = data.google_project.this.project_id
  }

  deletion_protection_enabled = var.deletion_protection

  depends_on = [google_network_connectivity_service_connection_policy.redis]
}

locals {
  # Where an app connects: in cluster mode the endpoint that tells it all nodes, otherwise the node that takes writes.
  redis_endpoints = { for region, redis in google_memorystore_instance.redis : region => one([
    for connection in flatten(redis.endpoints[*].connections[*].psc_auto_connection) : connection
    if connection.connection_type == (var.redis_shards == null ? "CONNECTION_TYPE_PRIMARY" : "CONNECTION_TYPE_DISCOVERY")
  ]) }
  redis_urls = { for region, endpoint in local.redis_endpoints : region => "rediss://${endpoint.ip_address}:${endpoint.port}" }
  # Public certificates, no secrets. A CA that is about to take over is among them.
  redis_cas = { for region, redis in google_memorystore_instance.redis : region =>
    join("\n", flatten(redis.managed_server_ca[*].ca_certs[*].certificates))
  }
}
