/**
 * Node.js layers for opencode-turn.
 *
 * @since 0.1.0
 */
export { InvalidConfig, type Live, LiveLayer } from "./live/LiveLayer.ts"
export * as OpencodeServer from "./live/OpencodeServer.ts"
export * as Telemetry from "./live/Telemetry.ts"
export * as SqliteClient from "./sql/SqliteClient.ts"
export * as SqlMigrations from "./sql/SqlMigrations.ts"
export * as SqlSessionStore from "./sql/SqlSessionStore.ts"
export * as TerminalGate from "./terminal/TerminalGate.ts"
