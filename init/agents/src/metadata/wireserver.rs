// SPDX-License-Identifier: Apache-2.0
//! Azure's wireserver, which wants to hear that a machine is up, or takes it for one that did not come up:
//! <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/no-agent>.

use super::{
    AskError, LONGEST_JSON, MetadataError,
    service::{Asker, Question},
    uri,
};
use crate::ovf;
use bytes::Bytes;
use http::{HeaderValue, Method, header::CONTENT_TYPE};

/// What a machine is asked to be, as far as it has to be said again.
#[derive(Debug, PartialEq, Eq)]
pub struct GoalState {
    incarnation: String,
    container: String,
    instance: String,
}

/// Reads a goal state.
///
/// # Errors
/// Why it is none.
pub fn read(text: &str) -> Result<GoalState, String> {
    let document = ovf::parse(text)?;
    let find = |name: &str| {
        let node = document.descendants().find(|node| node.has_tag_name(name));
        let text = node.and_then(|node| node.text()).map(str::trim).unwrap_or_default();
        let plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
        if text.is_empty() || text.len() > 200 || !text.chars().all(plain) {
            return Err(format!("it has no {name} that could be said again"));
        }
        Ok(text.to_owned())
    };
    Ok(GoalState {
        incarnation: find("Incarnation")?,
        container: find("ContainerId")?,
        instance: find("InstanceId")?,
    })
}

fn health(goal: &GoalState) -> String {
    let GoalState { incarnation, container, instance } = goal;
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Health xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"><GoalStateIncarnation>{incarnation}</GoalStateIncarnation><Container>\
         <ContainerId>{container}</ContainerId><RoleInstanceList><Role><InstanceId>{instance}</InstanceId><Health><State>Ready</State>\
         </Health></Role></RoleInstanceList></Container></Health>\n"
    )
}

/// Asks for the goal state, and says that it is reached.
pub(super) async fn report(asker: &Asker, server: &str) -> Result<(), MetadataError> {
    let (path, body) = ("/machine/?comp=goalstate", Bytes::new());
    let said = ask(asker, Method::GET, format!("{server}{path}"), body).await?;
    let goal = read(&String::from_utf8_lossy(&said))
        .map_err(|why| MetadataError::Answer { url: format!("{server}{path}"), why })?;
    let body = Bytes::from(health(&goal));
    ask(asker, Method::POST, format!("{server}/machine/?comp=health"), body).await.map(drop)
}

async fn ask(
    asker: &Asker,
    method: Method,
    url: String,
    body: Bytes,
) -> Result<Vec<u8>, MetadataError> {
    let mut question = Question::get(uri(&url)?);
    question.method = method;
    question.headers.insert("x-ms-version", HeaderValue::from_static("2012-11-30"));
    question.headers.insert("x-ms-agent-name", HeaderValue::from_static("stele"));
    if !body.is_empty() {
        question.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/xml; charset=utf-8"));
    }
    question.body = body;
    match asker.ask(question, LONGEST_JSON).await {
        Ok((status, bytes)) if status.is_success() => Ok(bytes),
        Ok((status, _)) => Err(MetadataError::Ask { url, source: AskError::Status(status) }),
        Err(source) => Err(MetadataError::Ask { url, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn what_can_t_be_said_again_is_refused() {
        assert!(read("<GoalState/>").unwrap_err().contains("Incarnation"));
        let odd = "<GoalState><Incarnation>1&lt;</Incarnation></GoalState>";
        assert!(read(odd).is_err());
        assert!(read("<").is_err());
    }
}
