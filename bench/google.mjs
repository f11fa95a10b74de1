import { once } from 'node:events'
import { createServer } from 'node:http'

const values = {
  '/project/project-id': 'project-1',
  '/instance/region': 'projects/1/regions/europe-west1',
  '/instance/id': '00bf4bf02d',
  '/instance/service-accounts/default/token': JSON.stringify({ access_token: 'token', expires_in: 3_600, token_type: 'Bearer' })
}

/**
 * Starts Google's metadata server and Telemetry API on loopback. Returns the environment that makes a process believe
 * in them, and how often metrics came.
 */
export async function startGoogle () {
  let exports = 0
  const server = createServer((request, response) => {
    request.resume()
    const value = values[request.url.replace('/computeMetadata/v1', '').split('?', 1)[0]]
    if (request.method === 'POST') exports++
    response.writeHead(request.method === 'POST' || value !== undefined ? 200 : 404, { 'metadata-flavor': 'Google', 'content-type': value?.startsWith('{') ? 'application/json' : 'text/plain' })
    response.end(value)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const host = `127.0.0.1:${server.address().port}`
  return {
    env: {
      K_SERVICE: 'bench', K_REVISION: 'bench-1', K_CONFIGURATION: 'bench', GCE_METADATA_HOST: host, METADATA_SERVER_DETECTION: 'assume-present', GOOGLE_CLOUD_TELEMETRY_ENDPOINT: `http://${host}`, OTEL_METRIC_EXPORT_INTERVAL: '10000'
    },
    exports: () => exports,
    stop () {
      server.close()
      server.closeAllConnections()
    }
  }
}
