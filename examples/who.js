// Who uses an example, and where the service is. The start page asks for it, and puts it into the URL. In an application, the login
// says who the user is.

const query = new URLSearchParams(location.search);

export const userId = query.get("userId") ?? "";
export const name = query.get("name") || userId;
export const service = query.get("service") ?? "http://127.0.0.1:8080";

if (!userId) location.replace("../");
