variable "project" {
  description = "ID of the Google Cloud project."
  type        = string
}

variable "image" {
  description = "Container image to run, such as us-docker.pkg.dev/PROJECT/chat/chat:1. README.md says how to build it."
  type        = string
}

variable "service" {
  description = "Name of the service. The names of everything else begin with it."
  type        = string
  default     = "chat"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.service))
    error_message = "service must be 2 to 24 lowercase letters, digits and -: names of service accounts have at most 30 characters."
  }
}

variable "regions" {
  description = "Regions of the service. Only append to this list: a region's place in it decides its addresses."
  type        = list(string)
  default     = ["us-central1"]

  validation {
    condition     = length(var.regions) >= 1 && length(var.regions) <= 16 && length(distinct(var.regions)) == length(var.regions)
    error_message = "regions must name 1 to 16 regions, each once."
  }
  validation {
    condition     = length(var.regions) == 1 || var.domain != null
    error_message = "Two regions need a load balancer in front: set domain."
  }
}

variable "domain" {
  description = "Domain of an external load balancer with Cloud Armor, such as chat.example.com. With null there is none, and clients use the service's run.app address."
  type        = string
  default     = null
}

variable "requests_per_minute" {
  description = "Requests that Cloud Armor allows from one address. A whole company may share one address, and reconnect at once."
  type        = number
  default     = 6000
}

variable "min_instances" {
  description = "Instances per region that always run."
  type        = number
  default     = 1

  validation {
    condition     = var.min_instances >= (length(var.regions) == 1 ? 0 : 1) && var.min_instances <= var.max_instances
    error_message = "min_instances must not be more than max_instances, and with several regions at least 1: without an instance Cloud Run cannot know a region's health."
  }
}

variable "max_instances" {
  description = "Maximum of instances per region. It limits the bill, and decides the size of the subnet."
  type        = number
  default     = 100

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 1000
    error_message = "max_instances must be 1 to 1000."
  }
}

variable "cpu" {
  description = "vCPUs of an instance. Node uses little more than one."
  type        = string
  default     = "1"
}

variable "memory" {
  description = "Memory of an instance."
  type        = string
  default     = "1Gi"
}

variable "concurrency" {
  description = "Concurrent requests per instance, and so connections."
  type        = number
  default     = 1000

  validation {
    condition     = var.concurrency >= 2 && var.concurrency <= 1000
    error_message = "concurrency must be 2 to 1000: an instance needs room for probes beside its connections."
  }
}

variable "concurrency_target" {
  description = "Share of the concurrency to which Cloud Run fills an instance before it starts another. Its own default is 0.6."
  type        = number
  default     = 0.9

  validation {
    condition     = var.concurrency_target >= 0.1 && var.concurrency_target <= 0.95
    error_message = "concurrency_target must be 0.1 to 0.95."
  }
}

variable "timeout" {
  description = "Seconds after which Cloud Run ends a request, and so a connection."
  type        = number
  default     = 3600

  validation {
    condition     = var.timeout >= 1 && var.timeout <= 3600
    error_message = "timeout must be 1 to 3600."
  }
}

variable "env" {
  description = "More environment variables of the app."
  type        = map(string)
  default     = {}
}

variable "canary_percent" {
  description = "Share of the new clients that the newest revision gets. Below 100, stable_revisions must say which revisions get the rest. 0 rolls back."
  type        = number
  default     = 100

  validation {
    condition     = var.canary_percent == 100 || length(setsubtract(var.regions, keys(var.stable_revisions))) == 0
    error_message = "With canary_percent below 100, stable_revisions must name a revision for each region."
  }
}

variable "stable_revisions" {
  description = "For each region, the revision that gets the other clients during a canary, such as { us-central1 = \"chat-00041-abc\" }."
  type        = map(string)
  default     = {}
}

variable "address_range" {
  description = "Range of the network, a /14 or larger: each region gets a sixteenth of it. It must not overlap with networks that you peer with."
  type        = string
  default     = "10.64.0.0/14"

  validation {
    condition     = can(cidrnetmask(var.address_range)) && tonumber(split("/", var.address_range)[1]) <= 14
    error_message = "address_range must be a range like 10.64.0.0/14, with at most 14 after the slash."
  }
}

variable "redis_region" {
  description = "One region whose Redis all regions use, so that they share channels. With null each region has its own Redis."
  type        = string
  default     = null

  validation {
    condition     = var.redis_region == null ? true : contains(var.regions, var.redis_region)
    error_message = "redis_region must be one of regions."
  }
}

variable "redis_version" {
  description = "Version of Valkey."
  type        = string
  default     = "VALKEY_8_0"
}

variable "redis_node_type" {
  description = "Size of a node: SHARED_CORE_NANO (1.4 GB, to try it out), STANDARD_SMALL (6.5 GB), HIGHMEM_MEDIUM (13 GB) or HIGHMEM_XLARGE (58 GB)."
  type        = string
  default     = "STANDARD_SMALL"
}

variable "redis_replicas" {
  description = "Replicas of each shard. Without one, maintenance or a crash empties Redis."
  type        = number
  default     = 1
}

variable "redis_shards" {
  description = "Shards of Valkey in cluster mode. Null turns cluster mode off: one node and its replicas. It cannot be changed in place."
  type        = number
  default     = null
}

variable "token_secret_version" {
  description = "Increase it to create a new secret for the tokens of SDK clients. Tokens signed with the old one are then refused."
  type        = number
  default     = 1
}

variable "monitoring_folder" {
  description = "Folder with the dashboard, alerts, log metrics and objectives. Null means the folder monitoring beside this one."
  type        = string
  default     = null
}

variable "notification_channels" {
  description = "Notification channels for the alerts: projects/PROJECT/notificationChannels/ID. Without one nobody is notified."
  type        = list(string)
  default     = []
}

variable "runbook" {
  description = "Address where you publish the runbook. Each alert links to its section."
  type        = string

  validation {
    condition     = can(regex("^https://[^\"\\\\]+$", var.runbook))
    error_message = "runbook must be an https address."
  }
}

variable "uptime_check" {
  description = "Whether Google checks /health from outside, and an alert pages if it fails. With null: without a domain. With a domain, set it when the certificate is active."
  type        = bool
  default     = null
}

variable "billing_account" {
  description = "ID of the billing account that gets the budget, such as 012345-567890-ABCDEF. With null there is no budget."
  type        = string
  default     = null
}

variable "monthly_budget" {
  description = "Monthly budget of the project, in the billing account's currency. Alerts come at 50, 90 and 100% of it."
  type        = number
  default     = 500
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the service and Redis."
  type        = bool
  default     = true
}
