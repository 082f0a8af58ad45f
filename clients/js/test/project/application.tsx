// An application that uses all that the package exports. It is compiled, and not run.

import {
  Rollcall,
  RollcallError,
  type ChosenStatus,
  type ConnectionState,
  type EffectiveStatus,
  type Message,
  type Options,
  type OwnStatus,
  type Presence,
  type Profile,
  type Release,
  type Room,
  type RoomInterest,
  type Snapshot,
  type StatusChoice,
  type TypingTarget,
  type User,
} from "@rollcall/client";
import {
  OnlineUsersList,
  PresenceProvider,
  SocketProvider,
  StatusDot,
  UserStatusIndicator,
  useComplete,
  useConnection,
  useOnlineCount,
  useOnlineUsers,
  useOwnStatus,
  usePresence,
  useRollcall,
  useRoom,
  useTyping,
} from "@rollcall/client/react";
import { sharedTabs } from "@rollcall/client/tabs";

const options: Options = {
  url: "https://presence.example.com",
  getToken: async () => (await fetch("/token")).text(),
  profile: { name: "John Doe", metadata: { team: "blue" } },
  status: { status: "away", text: "back soon", expiresInMs: 60_000 },
  device: { kind: "desktop", name: "a desk" },
  tabs: sharedTabs(),
  onError: ({ code, message }) => console.log(code, message),
};
const client = new Rollcall(options);
const stop: Release = client.subscribe(() => {
  const { connection, users, count, own, degraded }: Snapshot = client.getSnapshot();
  const state: ConnectionState = connection;
  const everybody: readonly User[] = users;
  const status: OwnStatus | undefined = own;
  console.log(state, everybody[0]?.metadata?.team, count?.toFixed(), status?.expiresAt, degraded);
});
client.connect();
const presence: Presence = client.presence("43");
const effective: EffectiveStatus | "offline" | "unknown" = presence.status;
const interest: RoomInterest = "count";
const leave: Release = client.joinRoom("lobby", interest);
const room: Room = client.room("lobby");
const target: TypingTarget = { roomId: "lobby" };
const typists: readonly string[] = client.typing(target);
const releases: Release[] = [client.watch("43"), client.watch(["43", "44"]), client.watchCount(), client.watchEveryone()];
client.startTyping({ toUserId: "43" });
client.stopTyping(target);
client.setIdle(true);

async function talk(choice: ChosenStatus | StatusChoice, profile: Profile): Promise<EffectiveStatus> {
  try {
    const own: OwnStatus = await client.setStatus(choice);
    const user: User = await client.updateProfile(profile);
    const answer: Message = await client.request({ type: "get_devices" });
    console.log(own.chosen, answer.devices, (await client.check("43")).lastSeen);
    return user.status;
  } catch (error) {
    if (error instanceof RollcallError) console.log(error.code, error.retryAfterMs);
    throw error;
  }
}

// @ts-expect-error: there is no such status
void client.setStatus("lazy");
// @ts-expect-error: somebody must be typed to
client.startTyping({});
// @ts-expect-error: a snapshot is read, and not written
client.getSnapshot().degraded = true;
// @ts-expect-error: there is no such option
new Rollcall({ address: "" });

function Page({ users }: { users?: readonly User[] }) {
  const { status }: Presence = usePresence("42");
  const everyone: readonly User[] = useOnlineUsers({ exclude: "42" });
  const complete: boolean = useComplete();
  const count: number | undefined = useOnlineCount();
  const { joined, error }: Room = useRoom("lobby", { presence: "count" });
  const { typists, startTyping, stopTyping } = useTyping({ roomId: "lobby" });
  const [own, choose] = useOwnStatus();
  const connection: ConnectionState = useConnection();
  const same: Rollcall = useRollcall();
  return (
    <form onSubmit={stopTyping} onKeyDown={startTyping} onReset={() => void choose("away")}>
      {[status, everyone.length, complete, count, joined, error, own?.effective, connection, users?.length].join()}
      {typists.map((id) => same.presence(id).user?.name)}
      <UserStatusIndicator userId="42" showLabel className="mine" labels={{ dnd: "nicht stören" }} />
      <OnlineUsersList exclude="42" label="Colleagues" empty={<p>nobody</p>}>
        {(user) => <b>{user.name ?? user.id}</b>}
      </OnlineUsersList>
      <StatusDot status="busy" unstyled style={{ color: "red" }} />
    </form>
  );
}

export const application = (
  <PresenceProvider client={client}>
    <SocketProvider url="/ws" userId={42} everyone>
      <Page />
    </SocketProvider>
  </PresenceProvider>
);
export { effective, leave, releases, room, stop, talk, typists };
