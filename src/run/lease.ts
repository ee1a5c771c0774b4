export const DEFAULT_LEASE_MS = 10_000;
