import type { FastifyRequest } from 'fastify'

/** Who may call the HTTP API: whoever has the key, or whom your function lets through. */
export type ApiOptions =
  | {
    /**
     * At least 16 printable ASCII characters, such as from `openssl rand -hex 32`. Callers send it as `X-API-Key`, or
     * as `Authorization: apikey …`. With a list, any of its keys is accepted, so that a key can be replaced.
     */
    key: string | readonly string[]
    authorize?: undefined
  }
  | {
    /**
     * Decides within 10 s about each request, before its body is read. Only true lets it through; any other value is
     * answered with 403. If it throws, the request gets 401, or the error's own `statusCode`.
     */
    authorize: (request: FastifyRequest) => boolean | Promise<boolean>
    key?: undefined
  }
