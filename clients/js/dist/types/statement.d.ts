/**
 * @typedef {import("./types.js").Message} Message
 * @typedef {ReturnType<typeof makeStatement>} Statement
 */
/** @param {import("./types.js").Options} options */
export function makeStatement({ userId, profile, device, status }: import("./types.js").Options): {
    userId: string | number | undefined;
    /** The members of `join_user` that are about the user. */
    fields: () => {
        device: {
            [member: string]: unknown;
            kind: string;
        } | undefined;
        name?: string | null;
        username?: string | null;
        email?: string | null;
        avatar?: string | null;
        metadata?: Record<string, unknown> | null;
        userId: string | number | undefined;
    };
    /** What was chosen on this or another socket of the user, and what became of the profile. @param {Message} message */
    take({ type, chosen, statusText, expiresAt, user }: Message): void;
};
export type Message = import("./types.js").Message;
export type Statement = ReturnType<typeof makeStatement>;
