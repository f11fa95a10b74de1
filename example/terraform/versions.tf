terraform {
  # Ephemeral and write-only values, which are not in the state, need 1.11.
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.46, < 8.0"
    }
    # Only for the service: the other provider does not have its scaling target yet.
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
  # The budget API requires a project that pays for the calls.
  billing_project       = var.project
  user_project_override = true
}

provider "google-beta" {
  project = var.project
}
