output "urls" {
  description = "Address of the service in each region. With a load balancer, only that can reach it."
  value       = { for region, service in google_cloud_run_v2_service.this : region => service.uri }
}

output "revisions" {
  description = "Newest revision of each region: what stable_revisions takes before the next rollout."
  value       = { for region, service in google_cloud_run_v2_service.this : region => basename(service.latest_ready_revision) }
}

output "load_balancer_address" {
  description = "Address that an A record of the domain has to lead to."
  value       = one(google_compute_global_address.this[*].address)
}

output "redis_urls" {
  description = "Address of each Redis, from within the network."
  value       = local.redis_urls
}
