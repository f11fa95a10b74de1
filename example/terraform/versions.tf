terraform {
  # Values that reach no state (ephemeral, write-only) came with 1.11.
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.46, < 8.0"
    }
    # Only for the service: its scaling target is not in the other one yet.
    google-beta = {
      source  = "hashicorp/google-beta"
      version = ">= 7.46, < 8.0"
    }
    random = {
      source  = "hashicorp/random"
      version = ">= 3.7, < 4.0"
    }
  }
}

provider "google" {
  project = var.project
  # Budgets are an API that asks who pays for the calls.
  billing_project       = var.project
  user_project_override = true
}

provider "google-beta" {
  project = var.project
}
